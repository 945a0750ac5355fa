import type { Readable } from "node:stream";

/** What is known of an object without reading its bytes. */
export interface ObjectInfo {
  key: string;
  sizeBytes: number;
  modifiedAt: Date;
}

/** Bytes from `start` to `end`, both included, as in HTTP's Range. `end` past the last byte means the last byte. */
export interface ByteRange {
  start: number;
  end?: number;
}

/** All bytes at once (small objects), or chunks as they come; a chunk given away is not written to again. */
export type ObjectBody = Uint8Array | AsyncIterable<Uint8Array>;

export interface PutOptions {
  /** Create only: an object already under the key is left as it is and `stored` is false. */
  ifAbsent?: boolean;
}

/** What is wrong with an object: gone, of another length, other bytes, or bytes that the disk does not give. */
export type Problem = "missing" | "size" | "hash" | "unreadable";

/**
 * The store answers, and cannot give this one object as it was put. Unlike Unavailable it says nothing about other
 * objects, and asking again does not help.
 */
export class Damaged extends Error {
  override readonly name = "Damaged";
  readonly problem: Problem;

  constructor(problem: Problem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

/**
 * SEAM. Where bytes live: a disk folder or an S3 bucket today.
 *
 * Keys are 1 to 1,024 bytes of UTF-8 without NUL. A key is opaque: "a/../b" is not "b".
 * Every method throws Unavailable when the store cannot be reached, does not answer in time, or is full (`full: true`).
 * What reads, and the stream it gives, throws Damaged where the store itself sees that an object is not whole. That its
 * bytes are the right ones no store knows: src/objects/verify.ts compares their hash.
 */
export interface ObjectStore {
  readonly kind: "disk" | "s3";

  /**
   * Writes an object. When it resolves the bytes survive a power cut; until then no reader sees any of them.
   * A body that throws leaves nothing behind, and its error is thrown on unchanged.
   */
  put(key: string, body: ObjectBody, options?: PutOptions): Promise<{ stored: boolean; sizeBytes: number }>;

  /**
   * Memory that one `put` of a stream of so many bytes holds at most, what the stream itself holds apart.
   * @param sizeBytes  Infinity: not known
   */
  putMemoryBytes(sizeBytes: number): number;

  /** Undefined: there is no such object. */
  head(key: string): Promise<ObjectInfo | undefined>;

  /**
   * The bytes as a stream, or undefined when there is no such object. A range that starts past the end
   * gives an empty stream; `sizeBytes` is always that of the whole object.
   */
  read(key: string, range?: ByteRange): Promise<{ sizeBytes: number; stream: Readable } | undefined>;

  /** The whole object in memory. Only for objects known to be small. */
  readWhole(key: string): Promise<Uint8Array | undefined>;

  /** Removes objects; those that are not there do not matter. */
  remove(keys: readonly string[]): Promise<void>;

  /**
   * Removes the object if `isMeant` says so of its bytes: one that somebody puts in its place meanwhile stays.
   * Only for objects known to be small. @returns whether it was removed
   */
  removeIf(key: string, isMeant: (bytes: Uint8Array) => boolean): Promise<boolean>;

  /**
   * Puts these few bytes in the object's place if `isMeant` says so of those that are there, damaged ones being none.
   * @returns whether it did; false also where there is no such object
   */
  replaceIf(key: string, isMeant: (bytes: Uint8Array) => boolean, bytes: Uint8Array): Promise<boolean>;

  /** Objects whose key begins with `prefix`, in byte order of the key, at most `limit`, after the key `after`. */
  list(prefix: string, options: { after?: string; limit: number }): Promise<ObjectInfo[]>;

  /** Proves that the store can be used now, cheaply; throws Unavailable. */
  ping(): Promise<void>;

  close(): Promise<void>;
}

/**
 * What a store may know beyond the seam: taking over a large object of another store without copying its bytes
 * (a hard link between two folders of one file system).
 */
export interface AdoptsObjects {
  /** Undefined: it cannot be done here (other kind of store, other file system); copy the bytes instead. */
  adopt(key: string, source: ObjectStore, sourceKey: string, options?: PutOptions): Promise<{ stored: boolean } | undefined>;
}

export function adopts(store: ObjectStore): store is ObjectStore & AdoptsObjects {
  return "adopt" in store;
}

/** What a store may know beyond the seam: listing without a look at the objects, where a look costs reading them. */
export interface ListsKeys {
  /** As list, but the keys alone. */
  listKeys(prefix: string, options: { after?: string; limit: number }): Promise<string[]>;
}

export function listsKeys(store: ObjectStore): store is ObjectStore & ListsKeys {
  return "listKeys" in store;
}

/** What a store may know beyond the seam: cleaning up after processes that were killed in the middle of a put. */
export interface Sweeps {
  /** Removes what no object refers to and nobody wrote to for `olderThanMs`; returns how many it removed. @throws Unavailable; the reason of `stopping` */
  sweep(olderThanMs: number, stopping?: AbortSignal): Promise<number>;
}

export function sweeps(store: ObjectStore): store is ObjectStore & Sweeps {
  return "sweep" in store;
}

/** What a store on a disk knows beyond the seam, without looking at its objects one by one. Both take microseconds. */
export interface KnowsItsDisk {
  /**
   * Free bytes of the disk, and those of them that the store does not touch.
   * `spareBytes`: what the index has of the disk already, unused; only objects up to `smallObjectBytes` find room there.
   */
  room(): { freeBytes: number; keptBytes: number; spareBytes: () => number };

  /** An object larger than `smallObjectBytes` counts as two entries. `sizeBytes`: what the small ones take of the disk. */
  usage(): { entries: number; sizeBytes: number };

  readonly smallObjectBytes: number;
}

export function knowsItsDisk(store: ObjectStore): store is ObjectStore & KnowsItsDisk {
  return "room" in store && "usage" in store;
}

const LIST_AT_ONCE = 1_000;

/** All objects under a prefix, listed a page at a time. @throws Unavailable */
export async function* pagesOf(store: ObjectStore, prefix: string, atOnce = LIST_AT_ONCE): AsyncGenerator<ObjectInfo[]> {
  for (let after: string | undefined; ;) {
    const page = await store.list(prefix, { limit: atOnce, ...(after && { after }) });
    yield page;
    if (page.length < atOnce) return;
    after = page.at(-1)!.key;
  }
}

const LONGEST_KEY_BYTES = 1_024; // S3's limit

/** Callers make the keys, so a bad one is a bug and a plain Error. Lone surrogates have no UTF-8: two would be one key. */
export function checkKey(key: string): void {
  const sizeBytes = Buffer.byteLength(key);
  if (sizeBytes === 0 || sizeBytes > LONGEST_KEY_BYTES || key.includes("\0") || /\p{Surrogate}/u.test(key)) {
    throw new Error(`An object key is 1 to ${LONGEST_KEY_BYTES} bytes of UTF-8 without NUL, not ${JSON.stringify(key)}`);
  }
}

/** The first and last byte of `range` in an object of this size; undefined: the range holds no byte of it. */
export function clip(range: ByteRange | undefined, sizeBytes: number): { start: number; end: number } | undefined {
  const start = range?.start ?? 0;
  const end = Math.min(range?.end ?? Number.POSITIVE_INFINITY, sizeBytes - 1);
  return start <= end ? { start, end } : undefined;
}
