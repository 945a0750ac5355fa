import { closeSync, constants, fsyncSync, mkdirSync, openSync } from "node:fs";
import { access } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { Unavailable, type Dependency } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import type { ObjectRecord, SmallRecord } from "./index-record.ts";
import { FILE_BUFFER_BYTES, openLargeFiles } from "./large.ts";
import {
  checkKey, clip, Damaged, type AdoptsObjects, type KnowsItsDisk, type ListsKeys, type ObjectBody, type ObjectStore, type PutOptions, type Sweeps,
} from "./object-store.ts";
import { openRecords, Unanswered } from "./records.ts";
import { createSpace } from "./space.ts";
import { createTrouble } from "./trouble.ts";

export interface DiskSettings {
  /** Must be on a local file system: the index is mapped into memory. */
  folder: string;
  dependency: Dependency;
  /**
   * Objects up to this size live in the index itself, larger ones in a file each. Measured with 16 puts and removes at
   * once on ext4: the index is 8 times as fast at 100 KiB, 2 to 3 times at 256 KiB, even at 512 KiB.
   */
  smallObjectBytes: number;
  /** How long one write of the index may take before it counts as unavailable. */
  answerWithinMs?: number;
}

export type DiskStore = ObjectStore & AdoptsObjects & KnowsItsDisk & ListsKeys & Sweeps;

/**
 * Objects in a folder: `index/` (LMDB) knows every key and holds the small objects, `files/` has a file for each
 * large one. The record in the index is the commit point: a file without one is not an object.
 * @throws Unavailable when the folder cannot be used
 */
export async function openDiskStore(settings: DiskSettings): Promise<DiskStore> {
  const { folder, dependency, smallObjectBytes, answerWithinMs = 30_000 } = settings;
  const space = createSpace(folder);
  const trouble = createTrouble(dependency, space);
  const { disk } = trouble;
  const { records, large } = await openParts();

  async function put(key: string, body: ObjectBody, options: PutOptions = {}) {
    checkKey(key);
    await disk(records.assertUsable);
    const { bytes, chunks } = await headOf(body, smallObjectBytes);
    if (bytes) {
      const record = { bytes, sizeBytes: bytes.length, modifiedAt: new Date() };
      return { stored: await commit(key, record, options), sizeBytes: bytes.length };
    }
    const { file, sizeBytes } = await large.write(key, chunks).finally(() => chunks.return?.());
    await failpoint("file-written");
    return { stored: await commitFile(key, file, sizeBytes, options), sizeBytes };
  }

  async function commitFile(key: string, file: string, sizeBytes: number, options: PutOptions): Promise<boolean> {
    try {
      const stored = await commit(key, { file, sizeBytes, modifiedAt: new Date() }, options);
      if (!stored) await large.remove([file]);
      return stored;
    } catch (error) {
      if (!((error as Unavailable).cause instanceof Unanswered)) await large.remove([file]); // otherwise: the sweeper decides
      throw error;
    }
  }

  async function commit(key: string, record: ObjectRecord, { ifAbsent = false }: PutOptions): Promise<boolean> {
    await disk(() => space.take("bytes" in record ? record.sizeBytes + INDEX_BYTES : INDEX_BYTES, records.spareBytes));
    if (await disk(records.create(key, record))) return true;
    if (ifAbsent) return false;
    await large.remove(await disk(records.replace(key, record)));
    return true;
  }

  async function head(key: string) {
    checkKey(key);
    const record = await disk(async () => records.get(key));
    return record && { key, sizeBytes: record.sizeBytes, modifiedAt: record.modifiedAt };
  }

  async function read(key: string, range?: { start: number; end?: number }) {
    const found = await openObject(key, range);
    return found && { sizeBytes: found.sizeBytes, stream: found.stream ?? streamOf(found.bytes) };
  }

  async function readWhole(key: string) {
    const found = await openObject(key, undefined);
    return found?.stream ? Buffer.concat((await found.stream.toArray()) as Uint8Array[]) : found?.bytes;
  }

  async function openObject(key: string, range: { start: number; end?: number } | undefined) {
    checkKey(key);
    return disk(async () => {
      for (let attempt = 1; ; attempt += 1) {
        const record = records.get(key);
        if (!record) return undefined;
        const { sizeBytes } = record;
        const part = clip(range, sizeBytes);
        if (!part) return { sizeBytes, bytes: new Uint8Array(0) };
        if ("bytes" in record) return { sizeBytes, bytes: record.bytes.subarray(part.start, part.end + 1) };
        try {
          return { sizeBytes, stream: await large.read(record.file, part.start, part.end) };
        } catch (error) {
          // Overwritten or removed since the record was read: look again. A record that stays without its file is damage.
          if (!(error instanceof Damaged) || error.problem !== "missing" || attempt === 3) throw error;
        }
      }
    });
  }

  async function remove(keys: readonly string[]) {
    for (const key of keys) checkKey(key);
    if (keys.length === 0) return;
    await large.remove(await disk(records.remove(keys)));
  }

  function removeIf(key: string, isMeant: (bytes: Uint8Array) => boolean) {
    return exchangeIf(key, isMeant, undefined);
  }

  async function replaceIf(key: string, isMeant: (bytes: Uint8Array) => boolean, bytes: Uint8Array) {
    await disk(() => space.take(bytes.length + INDEX_BYTES, records.spareBytes));
    return exchangeIf(key, isMeant, { bytes, sizeBytes: bytes.length, modifiedAt: new Date() });
  }

  async function exchangeIf(key: string, isMeant: (bytes: Uint8Array) => boolean, next: SmallRecord | undefined) {
    checkKey(key);
    const record = await disk(async () => records.get(key));
    const bytes = record && ("bytes" in record ? record.bytes : await readWhole(key).catch(asNothing));
    if (!bytes || !isMeant(bytes)) return false;
    const files = await disk(records.exchange(key, record, next));
    if (files) await large.remove(files);
    return files !== undefined;
  }

  async function list(prefix: string, { after, limit }: { after?: string; limit: number }) {
    return disk(async () => records.list(prefix, { after, limit }));
  }

  async function listKeys(prefix: string, { after, limit }: { after?: string; limit: number }) {
    return disk(async () => records.listKeys(prefix, { after, limit }));
  }

  async function adopt(key: string, source: ObjectStore, sourceKey: string, options: PutOptions = {}) {
    checkKey(key);
    const path = await pathIn(source, sourceKey);
    if (!path) return undefined;
    const file = await large.adopt(key, path.path);
    return file ? { stored: await commitFile(key, file, path.sizeBytes, options) } : undefined;
  }

  async function pathOf(key: string) {
    const record = await disk(async () => records.get(key));
    return record && "file" in record ? { path: large.pathOf(record.file), sizeBytes: record.sizeBytes } : undefined;
  }

  async function sweep(olderThanMs: number, stopping?: AbortSignal) {
    return disk(async () => {
      let removed = 0;
      for await (const files of large.untouched(olderThanMs)) {
        stopping?.throwIfAborted();
        const orphans = files.filter((file) => !records.hasFile(file));
        await large.remove(orphans);
        removed += orphans.length;
      }
      return removed;
    });
  }

  async function ping() {
    await disk(async () => {
      await records.ping();
      await access(folder, constants.W_OK);
      space.take(INDEX_BYTES, records.spareBytes);
    });
  }

  async function close() {
    await disk(() => records.close());
  }

  async function openParts() {
    try {
      const firstMade = mkdirSync(folder, { recursive: true });
      const parts = {
        large: openLargeFiles(join(folder, "files"), { space, trouble }),
        records: await openRecords(join(folder, "index"), { answerWithinMs }),
      };
      // A flushed file is worth nothing in a folder that was not.
      for (const changed of [join(folder, "index"), folder, ...parentsOf(folder, firstMade)]) flushFolderSync(changed);
      return parts;
    } catch (error) {
      throw new Unavailable(dependency, { cause: error });
    }
  }

  /** The head of the stream, until it is known to be large, and two buffers to write. */
  function putMemoryBytes(sizeBytes: number): number {
    return sizeBytes <= smallObjectBytes ? sizeBytes : smallObjectBytes + FILE_BUFFER_BYTES;
  }

  const room = () => asked(() => ({ ...space.room(), spareBytes: () => asked(records.spareBytes) }));
  const usage = () => asked(records.usage);

  function asked<T>(question: () => T): T {
    try {
      return question();
    } catch (error) {
      throw new Unavailable(dependency, { cause: error });
    }
  }

  const store = {
    kind: "disk" as const, smallObjectBytes,
    put, putMemoryBytes, head, read, readWhole, remove, removeIf, replaceIf, list, listKeys, ping, close, adopt, sweep, room, usage,
  };
  filesOf.set(store, pathOf);
  return store;
}

/** What a record takes in the index besides its bytes, generously. */
const INDEX_BYTES = 8 * 1024;

/** Where another disk store of this process keeps a large object: only for adopting it. */
const filesOf = new WeakMap<ObjectStore, (key: string) => Promise<{ path: string; sizeBytes: number } | undefined>>();

function pathIn(source: ObjectStore, key: string) {
  return filesOf.get(source)?.(key);
}

/** What is damaged beyond reading is judged as if there were nothing in it. */
function asNothing(error: unknown): Uint8Array {
  if (error instanceof Damaged) return new Uint8Array(0);
  throw error;
}

type Head = { bytes: Uint8Array; chunks?: never } | { bytes?: never; chunks: AsyncIterableIterator<Uint8Array> };

/** The whole body, if it is small; else its chunks. Of a stream as much is gathered as it takes to know. */
async function headOf(body: ObjectBody, limit: number): Promise<Head> {
  if (body instanceof Uint8Array) return body.length <= limit ? { bytes: body } : { chunks: once(body) };
  const iterator = body[Symbol.asyncIterator]();
  const read: Uint8Array[] = [];
  for (let sizeBytes = 0; sizeBytes <= limit; ) {
    const next = await iterator.next();
    if (next.done) return { bytes: read.length === 1 && read[0] ? read[0] : Buffer.concat(read, sizeBytes) };
    read.push(next.value);
    sizeBytes += next.value.length;
  }
  return { chunks: resumed(read, iterator) };
}

/** Not a generator: one that was never started would not pass `return` on to the body. */
function resumed(read: Uint8Array[], iterator: AsyncIterator<Uint8Array>): AsyncIterableIterator<Uint8Array> {
  return {
    async next() {
      const value = read.shift();
      return value ? { value } : iterator.next();
    },
    async return() {
      await iterator.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** The folders that got a new one in them when `folder` was made, `firstMade` being the uppermost of the new ones. */
function parentsOf(folder: string, firstMade: string | undefined): string[] {
  const parents: string[] = [];
  for (let made = resolve(folder); firstMade !== undefined && made.length >= resolve(firstMade).length; made = dirname(made)) {
    parents.push(dirname(made));
  }
  return parents;
}

function flushFolderSync(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  yield bytes;
}

function streamOf(bytes: Uint8Array): Readable {
  const stream = new Readable({ read() {} });
  if (bytes.length > 0) stream.push(bytes);
  stream.push(null);
  return stream;
}
