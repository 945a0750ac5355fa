import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
} from "@aws-sdk/client-s3";
import { Readable } from "node:stream";
import { checkKey, type ByteRange, type ObjectBody, type ObjectInfo, type ObjectStore, type PutOptions, type Sweeps } from "./object-store.ts";
import { resumingStream } from "./s3-download.ts";
import { openRequests, STATUS, statusOf, type S3Connection } from "./s3-requests.ts";
import { createSweep } from "./s3-sweep.ts";
import { createUploads, partSizeFor } from "./s3-upload.ts";

export interface S3Settings extends S3Connection {
  bucket: string;
  /** Put before every key; it counts towards the 1,024 bytes a key may have. */
  prefix?: string;
  largestObjectBytes?: number;
  /** By default the least that allows for `largestObjectBytes` (partSizeFor). */
  partSizeBytes?: number;
}

const MOST_KEYS = 1_000; // of a listing and of a DeleteObjects
const PING_WITHIN_MS = 5_000;

/**
 * Objects in a bucket of AWS S3, Cloudflare R2, MinIO or Ceph.
 * Rights it needs: s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts
 * on the keys, s3:ListBucket, s3:ListBucketMultipartUploads on the bucket.
 * Not every server honours If-None-Match when it completes a multipart upload (Ceph 18 does not): there, two writers
 * that create the same object over one part in the same moment may both be told it was stored; the last one stays.
 * Nor does every server honour If-Match when it removes an object (Ceph 18 does not): there, removeIf may take out what
 * was put in between its reading and its removing.
 */
export function openS3Store(settings: S3Settings): ObjectStore & Sweeps {
  const { bucket, prefix = "", largestObjectBytes = 0, partSizeBytes = partSizeFor(largestObjectBytes), idleTimeoutMs = 15_000 } = settings;
  const requests = openRequests(settings);
  const { answer, s3 } = requests;
  const uploads = createUploads({ bucket, partSizeBytes, requests });
  const sweep = createSweep({ bucket, prefix, requests });

  async function put(key: string, body: ObjectBody, { ifAbsent = false }: PutOptions = {}) {
    const name = nameOf(key);
    await s3(async () => requests.assertOpen());
    return uploads.upload(name, body, { ifAbsent });
  }

  async function head(key: string): Promise<ObjectInfo | undefined> {
    const input = { Bucket: bucket, Key: nameOf(key) };
    return s3(async () => {
      try {
        const found = await answer((client, options) => client.send(new HeadObjectCommand(input), options));
        return { key, sizeBytes: found.ContentLength ?? 0, modifiedAt: found.LastModified ?? new Date(0) };
      } catch (error) {
        if (statusOf(error) !== STATUS.NOT_FOUND) throw error;
        await ping(); // this answer has no body to tell a missing object from a missing bucket
        return undefined;
      }
    });
  }

  async function read(key: string, range?: ByteRange) {
    const name = nameOf(key);
    if (range?.end !== undefined && range.end < range.start) return emptyPart(key);
    return s3(async () => {
      let found: Awaited<ReturnType<typeof get>>;
      try {
        found = await get(name, range);
      } catch (error) {
        if ((error as Error).name === "NoSuchKey") return undefined;
        if (statusOf(error) === STATUS.RANGE) return emptyPart(key);
        throw error;
      }
      return { sizeBytes: found.sizeBytes, stream: streamOf(name, found, range) };
    });
  }

  function streamOf(name: string, { body, sizeBytes, etag }: Awaited<ReturnType<typeof get>>, range?: ByteRange): Readable {
    const [start, end] = [range?.start ?? 0, Math.min(range?.end ?? Number.POSITIVE_INFINITY, sizeBytes - 1)];
    const reopen = async (at: number) => (await get(name, { start: at, end }, etag)).body;
    return resumingStream({ body, start, end, idleTimeoutMs, reopen, unavailable: requests.unavailable });
  }

  async function get(name: string, range?: ByteRange, etag?: string) {
    const found = await answer((client, options) =>
      client.send(new GetObjectCommand({ Bucket: bucket, Key: name, Range: headerOf(range), IfMatch: etag }), options),
    );
    const total = found.ContentRange?.split("/")[1];
    return { body: found.Body as Readable, sizeBytes: Number(total ?? found.ContentLength ?? 0), etag: found.ETag };
  }

  async function emptyPart(key: string) {
    const found = await head(key);
    return found && { sizeBytes: found.sizeBytes, stream: Readable.from([], { objectMode: false }) };
  }

  async function readWhole(key: string) {
    const found = await read(key);
    return found && Buffer.concat((await found.stream.toArray()) as Uint8Array[], found.sizeBytes);
  }

  async function remove(keys: readonly string[]) {
    const names = keys.map(nameOf);
    const together = names.filter((name) => !NOT_IN_XML.test(name));
    for (let at = 0; at < together.length; at += MOST_KEYS) await removeTogether(together.slice(at, at + MOST_KEYS));
    for (const name of names) if (NOT_IN_XML.test(name)) await removeOne(name);
  }

  async function removeTogether(names: string[]) {
    const [only] = names;
    if (names.length === 1 && only !== undefined) return removeOne(only);
    const input = { Bucket: bucket, Delete: { Quiet: true, Objects: names.map((Key) => ({ Key })) } };
    await s3(async () => {
      const { Errors = [] } = await answer((client, options) => client.send(new DeleteObjectsCommand(input), options));
      const [failed] = Errors;
      if (failed) throw new Error(`${Errors.length} of ${names.length} objects could not be removed: ${failed.Code}, ${failed.Message}`);
    });
  }

  async function removeOne(name: string) {
    await s3(() => answer((client, options) => client.send(new DeleteObjectCommand({ Bucket: bucket, Key: name }), options)));
  }

  async function removeIf(key: string, isMeant: (bytes: Uint8Array) => boolean): Promise<boolean> {
    const name = nameOf(key);
    return s3(async () => {
      try {
        const etag = await tagIf(name, isMeant);
        if (etag === undefined) return false;
        await removeUnchanged(name, etag);
        return true;
      } catch (error) {
        if ((error as Error).name === "NoSuchKey" || statusOf(error) === STATUS.CHANGED) return false;
        throw error;
      }
    });
  }

  async function replaceIf(key: string, isMeant: (bytes: Uint8Array) => boolean, bytes: Uint8Array): Promise<boolean> {
    const name = nameOf(key);
    const etag = await s3(() => tagIf(name, isMeant));
    if (etag === undefined) return false;
    // Ceph (seen: 18.2) compares the header as it is with its own tag, which has no quotes.
    for (const ifMatch of [etag, etag.replaceAll('"', "")]) if ((await uploads.upload(name, bytes, { ifMatch })).stored) return true;
    return false;
  }

  /** What tells this object from the next one under its name; undefined: it is not the one that is meant, or there is none. */
  async function tagIf(name: string, isMeant: (bytes: Uint8Array) => boolean): Promise<string | undefined> {
    try {
      const found = await get(name);
      return isMeant(Buffer.concat((await streamOf(name, found).toArray()) as Uint8Array[])) ? found.etag : undefined;
    } catch (error) {
      if ((error as Error).name === "NoSuchKey") return undefined;
      throw error;
    }
  }

  async function removeUnchanged(name: string, etag: string) {
    const input = { Bucket: bucket, Key: name };
    try {
      await answer((client, options) => client.send(new DeleteObjectCommand({ ...input, IfMatch: etag }), options));
    } catch (error) {
      if (statusOf(error) !== STATUS.NOT_IMPLEMENTED) throw error;
      await removeOne(name);
    }
  }

  async function list(start: string, { after, limit }: { after?: string; limit: number }): Promise<ObjectInfo[]> {
    const found: ObjectInfo[] = [];
    let last = after === undefined ? undefined : prefix + after;
    while (found.length < limit) {
      const page = await listPage(prefix + start, last, Math.min(limit - found.length, MOST_KEYS));
      found.push(...page.objects);
      const final = page.objects.at(-1);
      if (!page.more || !final) break;
      last = prefix + final.key;
    }
    return found;
  }

  async function listPage(start: string, after: string | undefined, limit: number) {
    const input = { Bucket: bucket, Prefix: start, StartAfter: after, MaxKeys: limit, EncodingType: "url" as const };
    return s3(async () => {
      const page = await answer((client, options) => client.send(new ListObjectsV2Command(input), options));
      const objects = (page.Contents ?? []).map((object) => ({
        key: decoded(object.Key ?? "").slice(prefix.length),
        sizeBytes: object.Size ?? 0,
        modifiedAt: object.LastModified ?? new Date(0),
      }));
      return { objects, more: page.IsTruncated ?? false };
    });
  }

  async function ping() {
    await s3(() => answer((client, options) => client.send(new HeadBucketCommand({ Bucket: bucket }), options), PING_WITHIN_MS));
  }

  async function close() {
    requests.close();
  }

  function nameOf(key: string): string {
    checkKey(key);
    checkKey(prefix + key);
    return prefix + key;
  }

  return { kind: "s3", put, putMemoryBytes: uploads.memoryBytes, head, read, readWhole, remove, removeIf, replaceIf, list, ping, close, sweep };
}

/** XML 1.0 cannot carry these, and turns a carriage return into a line feed: such keys are removed one by one. */
const NOT_IN_XML = /[^\t\n\x20-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u;

/** AWS writes a space as "+", Ceph as "%20"; both write "+" as "%2B". */
function decoded(key: string): string {
  return decodeURIComponent(key.replaceAll("+", " "));
}

function headerOf(range: ByteRange | undefined): string | undefined {
  return range && `bytes=${range.start}-${range.end ?? ""}`;
}
