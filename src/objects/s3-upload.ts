import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { failpoint } from "../core/failpoints.ts";
import { createTurns } from "../core/turns.ts";
import type { ObjectBody } from "./object-store.ts";
import { STATUS, statusOf, wasRetried, type Requests } from "./s3-requests.ts";

const MOST_PARTS = 10_000; // S3's limit
const MOST_CONFLICTS = 8;
/** Parts of one upload under way at once; one more is being gathered. */
const PARTS_AT_ONCE = 2;
/** Says whose put an object is from: when an answer was lost, only that tells "stored" from "there already". */
const PUT_ID = "put-id";

/** Of all uploads of a store together: each part is in memory until it is answered, and a source waits for two of its own. */
const MOST_PARTS_UNDER_WAY = 8;

/** `ifMatch`: only in the place of the object with that tag. */
type Conditional = { ifAbsent?: boolean; ifMatch?: string };

/** The least part size for objects of this size: R2 wants all parts but the last equal, so they cannot grow on the way. */
export function partSizeFor(largestObjectBytes: number): number {
  const MIB = 1024 * 1024;
  return Math.max(8, Math.ceil(largestObjectBytes / MOST_PARTS / MIB)) * MIB;
}

export function createUploads({ bucket, partSizeBytes, requests }: { bucket: string; partSizeBytes: number; requests: Requests }) {
  const { answer, s3 } = requests;
  const inTurn = createTurns(MOST_PARTS_UNDER_WAY);

  /** One request when it fits into a part, else as many as it has parts; all of them from memory, so each can be retried. */
  async function upload(key: string, body: ObjectBody, condition: Conditional) {
    if (body instanceof Uint8Array && body.length <= partSizeBytes) return putAtOnce(key, body, condition);
    const parts = partsOf(body, partSizeBytes);
    try {
      const { firstBytes, all } = await peek(parts);
      if (firstBytes === partSizeBytes) return await putInParts(key, all, condition);
      return await putAtOnce(key, (await all.next()).value ?? new Uint8Array(0), condition);
    } finally {
      await parts.return(undefined);
    }
  }

  async function putAtOnce(key: string, bytes: Uint8Array, condition: Conditional) {
    const putId = randomUUID();
    const input = { Bucket: bucket, Key: key, Body: bytes, Metadata: { [PUT_ID]: putId } };
    const stored = await conditionally(key, putId, () =>
      answer((client, options) => client.send(new PutObjectCommand({ ...input, ...headersOf(condition) }), options)),
    );
    return { stored, sizeBytes: bytes.length };
  }

  async function putInParts(key: string, body: AsyncIterable<Uint8Array>, condition: Conditional) {
    const putId = randomUUID();
    const target = { Bucket: bucket, Key: key };
    const { UploadId } = await s3(() =>
      answer((client, options) => client.send(new CreateMultipartUploadCommand({ ...target, Metadata: { [PUT_ID]: putId } }), options)),
    );
    const upload = { ...target, UploadId };
    try {
      const { parts, sizeBytes } = await sendParts(upload, body);
      await failpoint("file-written");
      // Ceph (seen: 18.2) ignores If-None-Match here, so it is asked before; between the two another writer can win.
      if (condition.ifAbsent && (await exists(key))) {
        await abandon(upload);
        return { stored: false, sizeBytes };
      }
      const input = { ...upload, MultipartUpload: { Parts: parts }, ...headersOf(condition) };
      const stored = await conditionally(key, putId, () =>
        answer((client, options) => client.send(new CompleteMultipartUploadCommand(input), options)),
      );
      if (!stored) await abandon(upload);
      return { stored, sizeBytes };
    } catch (error) {
      await abandon(upload);
      throw error;
    }
  }

  async function sendParts(upload: MultipartUpload, body: AsyncIterable<Uint8Array>) {
    const parts: { PartNumber: number; ETag: string | undefined }[] = [];
    const underWay = new Set<Promise<void>>();
    let sizeBytes = 0;
    const send = async (bytes: Uint8Array): Promise<void> => {
      const PartNumber = parts.length + 1;
      if (PartNumber > MOST_PARTS) throw new Error(`An object of this store has at most ${MOST_PARTS} parts of ${partSizeBytes} bytes`);
      const part = { PartNumber, ETag: undefined as string | undefined };
      parts.push(part);
      sizeBytes += bytes.length;
      const sent = inTurn(() => s3(async () => {
        const input = { ...upload, PartNumber, Body: bytes };
        part.ETag = (await answer((client, options) => client.send(new UploadPartCommand(input), options))).ETag;
      })).finally(() => underWay.delete(sent));
      sent.catch(() => {}); // awaited below; the body may throw before that
      underWay.add(sent);
      if (underWay.size >= PARTS_AT_ONCE) await Promise.race(underWay);
    };
    try {
      for await (const bytes of body) await send(bytes);
      await Promise.all(underWay);
    } finally {
      await Promise.allSettled(underWay); // a part that arrives after the abandoning would be kept, and paid for
    }
    return { parts, sizeBytes };
  }

  /** False: there is an object already, and not from this put; or not the one whose place it was to take. */
  async function conditionally(key: string, putId: string, send: () => Promise<unknown>): Promise<boolean> {
    return s3(async () => {
      for (let attempt = 1; ; attempt += 1) {
        try {
          await send();
          return true;
        } catch (error) {
          const status = statusOf(error);
          const mayBeDone = wasRetried(error) || attempt > 1;
          if ((status === STATUS.EXISTS || status === STATUS.NOT_FOUND) && mayBeDone && (await isFrom(key, putId))) return true;
          if (status === STATUS.EXISTS || (error as Error).name === "NoSuchKey") return false;
          if (status !== STATUS.CONFLICT || attempt === MOST_CONFLICTS) throw error;
          await wait(2 ** attempt * 5 * (1 + Math.random())); // another conditional put of the key is just being decided
        }
      }
    });
  }

  async function isFrom(key: string, putId: string): Promise<boolean> {
    return (await look(key))?.Metadata?.[PUT_ID] === putId;
  }

  async function exists(key: string): Promise<boolean> {
    return (await s3(() => look(key))) !== undefined;
  }

  async function look(key: string) {
    return answer((client, options) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), options)).catch((error: unknown) => {
      if (statusOf(error) === STATUS.NOT_FOUND) return undefined;
      throw error;
    });
  }

  /** Best effort: what cannot be abandoned now costs space until a sweep, or a lifecycle rule of the bucket, ends it. */
  async function abandon(upload: MultipartUpload): Promise<void> {
    await answer((client, options) => client.send(new AbortMultipartUploadCommand(upload), options)).catch(() => {});
  }

  /** While a part is sent, the next is gathered: its pieces, and the copy that is made of them. */
  function memoryBytes(sizeBytes: number): number {
    return Math.min(2 * sizeBytes, (PARTS_AT_ONCE + 1) * partSizeBytes);
  }

  return { upload, memoryBytes };
}

type MultipartUpload = { Bucket: string; Key: string; UploadId: string | undefined };

function headersOf({ ifAbsent, ifMatch }: Conditional): { IfNoneMatch?: string; IfMatch?: string } {
  return { ...(ifAbsent && { IfNoneMatch: "*" }), ...(ifMatch !== undefined && { IfMatch: ifMatch }) };
}

/**
 * The length of the first part (0: there is none), and all of them. Whoever held the first part itself across the sending
 * of the others would keep it in memory until the last was sent.
 */
async function peek(parts: AsyncGenerator<Uint8Array, undefined>) {
  const first = await parts.next();
  const peeked = first.done ? [] : [first.value];
  async function* all(): AsyncGenerator<Uint8Array, undefined> {
    while (peeked.length > 0) yield peeked.pop()!;
    yield* parts;
  }
  return { firstBytes: first.done ? 0 : first.value.length, all: all() };
}

/** The body cut into parts of one size; only the last is shorter. */
async function* partsOf(body: ObjectBody, partSizeBytes: number): AsyncGenerator<Uint8Array, undefined> {
  if (body instanceof Uint8Array) {
    for (let at = 0; at < body.length; at += partSizeBytes) yield body.subarray(at, at + partSizeBytes);
    return;
  }
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  for await (const chunk of body) {
    for (let rest = chunk; rest.length > 0; ) {
      const taken = rest.subarray(0, partSizeBytes - gatheredBytes);
      gathered.push(taken);
      gatheredBytes += taken.length;
      rest = rest.subarray(taken.length);
      if (gatheredBytes < partSizeBytes) continue;
      const part = Buffer.concat(gathered, gatheredBytes);
      [gathered, gatheredBytes] = [[], 0]; // not after the yield: until then a part may be sent
      yield part;
    }
  }
  if (gatheredBytes > 0) yield Buffer.concat(gathered, gatheredBytes);
}
