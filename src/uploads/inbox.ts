import { Readable } from "node:stream";
import { Failure } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { newId, nonce } from "../core/ids.ts";
import { createMeasure, sha256Of, sniffType } from "../objects/measure.ts";
import { knowsItsDisk, type ByteRange, type ObjectInfo, type ObjectStore } from "../objects/object-store.ts";
import { checkFileType } from "./file-types.ts";
import { decodeRecord, encodeRecord, type InboxRecord } from "./inbox-record.ts";
import type { Manifest } from "./messages.ts";
import { collectUpTo, restOf } from "./intake.ts";

/** Bytes that arrived whole and have no manifest yet: nobody was promised anything. */
export interface Received {
  sizeBytes: number;
  /** Hexadecimal. */
  sha256: string;
  /** MIME type by magic bytes. */
  sniffedType: string | undefined;
  /** A small upload, in memory until its manifest is written with it. */
  bytes: Uint8Array | undefined;
  /** A larger one: durable already, under this key. */
  blobKey: string | null;
}

export interface InboxSettings {
  store: ObjectStore;
  /** Up to this size the bytes are in the manifest's own record; larger ones are an object of their own. */
  smallObjectBytes: number;
  limitBytes: number;
  allowedTypes: readonly string[];
}

const MANIFESTS = "manifests/";
const BLOBS = "blobs/";
const LIST_AT_ONCE = 1_000;
const HEAD_BYTES = 4_100; // what magic bytes are looked for in

export type Inbox = ReturnType<typeof createInbox>;

/**
 * Where uploads wait, durable, from the moment they are acknowledged until they are settled. The commit protocol:
 * bytes first (receive), then the manifest, created only if there is none (commit). One record store does for both kinds
 * of inbox, a disk folder and an S3 bucket, because creating an object if absent is what either can do atomically.
 */
export function createInbox({ store, smallObjectBytes, limitBytes, allowedTypes }: InboxSettings) {
  /**
   * Takes the bytes in, once, as they come; at most `smallObjectBytes` of them are held in memory.
   * @param declaredType  what the client says the file is
   * @throws Failure FILE_TOO_LARGE as soon as the limit is passed, EMPTY_FILE, FILE_TYPE_NOT_ALLOWED; Unavailable
   */
  async function receive(source: Readable, declaredType: string | undefined): Promise<Received> {
    const { chunks, sizeBytes, ended } = await collectUpTo(source, Math.min(smallObjectBytes, limitBytes));
    if (sizeBytes > limitBytes) throw new Failure("FILE_TOO_LARGE");
    if (sizeBytes === 0) throw new Failure("EMPTY_FILE");
    if (ended) {
      const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, sizeBytes);
      const sniffedType = await sniffType(bytes);
      checkFileType(allowedTypes, sniffedType, declaredType, bytes);
      return { sizeBytes, sha256: sha256Of(bytes), sniffedType, bytes, blobKey: null };
    }
    const head = chunks[0]!.length >= HEAD_BYTES ? chunks[0]! : Buffer.concat(chunks, sizeBytes);
    const sniffedType = await sniffType(head);
    checkFileType(allowedTypes, sniffedType, declaredType, head);
    const measure = createMeasure();
    const blobKey = `${BLOBS}${newId()}-${nonce()}`;
    await store.put(blobKey, restOf(chunks, source, measure, limitBytes));
    return { sizeBytes: measure.sizeBytes, sha256: measure.sha256(), sniffedType, bytes: undefined, blobKey };
  }

  /** Bytes that will not be committed. Failing is harmless: what has no manifest is swept after a day. */
  async function discard({ blobKey }: Received): Promise<void> {
    if (blobKey !== null) await store.remove([blobKey]).catch(() => {});
  }

  /**
   * The commit point: once this resolves the upload is promised.
   * @returns the manifest that now stands under the id, and whether it is this one or was there before
   * @throws Unavailable; then it is not known whether the manifest was written, and the blob must be left alone
   */
  async function commit(manifest: Omit<Manifest, "blob_key">, received: Received): Promise<{ created: boolean; manifest: Manifest }> {
    const wanted: Manifest = { ...manifest, blob_key: received.blobKey };
    const { stored } = await store.put(MANIFESTS + manifest.upload_id, encodeRecord(wanted, received.bytes), { ifAbsent: true });
    if (stored) return { created: true, manifest: wanted };
    const existing = await find(manifest.upload_id);
    // Settled and removed in this very moment: the same id again, so the ledger will see that it has it already.
    if (!existing) return commit(manifest, received);
    return { created: false, manifest: existing.manifest };
  }

  async function find(uploadId: string): Promise<InboxRecord | undefined> {
    const record = await store.readWhole(MANIFESTS + uploadId);
    return record && decodeRecord(record);
  }

  /** The bytes of an upload that waits. Undefined: they are gone (settled meanwhile, or lost). */
  async function open({ manifest, bytes }: InboxRecord, range?: ByteRange): Promise<Readable | undefined> {
    if (manifest.blob_key !== null) return (await store.read(manifest.blob_key, range))?.stream;
    return Readable.from([bytes!.subarray(range?.start ?? 0, (range?.end ?? manifest.size_bytes - 1) + 1)]);
  }

  /** Takes settled uploads out: manifests first, so that none is ever left without its bytes. */
  async function remove(manifests: readonly Pick<Manifest, "upload_id" | "blob_key">[]): Promise<void> {
    await store.remove(manifests.map(({ upload_id }) => MANIFESTS + upload_id));
    await failpoint("manifests-removed");
    const blobs = manifests.flatMap(({ blob_key }) => (blob_key === null ? [] : [blob_key]));
    if (blobs.length > 0) await store.remove(blobs);
  }

  /** Ids of uploads that wait since before `before`, a page at a time. @returns `next` to go on with, if there may be more */
  async function listOlder(before: Date, limit: number, after?: string): Promise<{ ids: string[]; next: string | undefined }> {
    const page = await store.list(MANIFESTS, { limit, ...(after && { after: MANIFESTS + after }) });
    const ids = page.filter(({ modifiedAt }) => modifiedAt < before).map(({ key }) => key.slice(MANIFESTS.length));
    return { ids, next: page.length === limit ? page.at(-1)!.key.slice(MANIFESTS.length) : undefined };
  }

  /**
   * How many uploads wait, and what all that is here takes of the store: dead letters' bytes and uploads still coming in, too.
   * A disk's index knows how much it holds, so that only large uploads are listed there, where listing small ones would read them.
   * @param nextTurn  awaited between two pages, so that nobody waits for a long list
   * @throws what the signal was aborted with; Unavailable
   */
  async function weigh(nextTurn: () => Promise<unknown>, signal: AbortSignal): Promise<{ uploads: number; bytes: number }> {
    const index = knowsItsDisk(store) ? { ...store.usage(), smallObjectBytes: store.smallObjectBytes } : undefined;
    let [uploads, bytes] = index ? [index.entries, index.sizeBytes] : [0, 0];
    for await (const page of pages(index ? BLOBS : "")) {
      for (const { key, sizeBytes } of page) {
        if (!index) uploads += key.startsWith(MANIFESTS) ? 1 : 0;
        else uploads -= sizeBytes > index.smallObjectBytes ? 2 : 1;
        bytes += sizeBytes;
      }
      await nextTurn();
      signal.throwIfAborted();
    }
    return { uploads: Math.max(0, uploads), bytes };
  }

  /** Removes blobs older than `before` whose manifest was never written. @returns how many */
  async function sweep(before: Date): Promise<number> {
    const orphans = new Set<string>();
    for await (const { key, modifiedAt } of objects(BLOBS)) if (modifiedAt < before) orphans.add(key);
    if (orphans.size === 0) return 0;
    for await (const { key } of objects(MANIFESTS)) {
      const record = await store.readWhole(key);
      const blobKey = record && decodeRecord(record).manifest.blob_key;
      if (blobKey) orphans.delete(blobKey);
    }
    await store.remove([...orphans]);
    return orphans.size;
  }

  async function* objects(prefix: string): AsyncGenerator<ObjectInfo> {
    for await (const page of pages(prefix)) yield* page;
  }

  /** All objects under a prefix, listed a page at a time. */
  async function* pages(prefix: string): AsyncGenerator<ObjectInfo[]> {
    for (let after: string | undefined; ;) {
      const page = await store.list(prefix, { limit: LIST_AT_ONCE, ...(after && { after }) });
      yield page;
      if (page.length < LIST_AT_ONCE) return;
      after = page.at(-1)!.key;
    }
  }

  return { store, receive, discard, commit, find, open, remove, listOlder, weigh, sweep };
}
