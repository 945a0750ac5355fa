import { mkdirSync, realpathSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { open } from "lmdb";
import { createIndexLock, NotAlone } from "./index-lock.ts";
import { decode, encode, fileIn, infoIn, type ObjectRecord, type SmallRecord } from "./index-record.ts";

/** How long the start of a process waits for others to let go of the index, and its end: that may go without. */
const OPEN_WITHIN_MS = 30_000;
const CLOSE_WITHIN_MS = 2_000;

/** As LMDB opens a folder a second time it drops the locks by which other processes know that this one uses it. */
const openHere = new Set<string>();

/** 64 GiB of address space. LMDB takes disk space only as it grows, and its map grows beyond this by itself. */
const MAP_BYTES = 2 ** 36;

// Keys begin with what they are for: an object's record, or a file's name (no value: it says that an object has it).
const OBJECT = 1;
const FILE = 2;

/**
 * The index of a disk store: one LMDB environment, key -> record, in byte order of the key. Several processes
 * open the same one at once.
 *
 * `overlappingSync: false`: LMDB's own order, in which a commit is flushed before anyone can see it, so every
 * promise below resolves when the change survives a power cut, a failed flush leaves the old state, and a
 * reader never acts on what may still be lost. As fast as the overlapping mode here: all writers that wait
 * share commits either way.
 * `noReadAhead`: where the index is larger than the memory left for it, the kernel would read 128 KiB around every page that
 * is touched, and throw out others for it. In 512 MB, with 700 MB waiting, a worker settled 30 uploads a second, reading
 * 25 MB for each; without, 270 and 0.2 MB.
 * `eventTurnBatching: false`: when a commit fails, the batching mode rejects a promise nobody can reach, which
 * ends the process.
 *
 * Opening is apart from all writes: lmdb-js 3.5.6 sets the number of the last transaction, which all processes share, to the
 * one it read as it began to open. What another process committed in between would be overwritten by the next commit
 * (mdb.c, mdb_env_open2; mended in LMDB as ITS#9496). So every write is in a turn of the lock, too.
 */
export async function openRecords(folder: string, { answerWithinMs }: { answerWithinMs: number }) {
  mkdirSync(folder, { recursive: true });
  const path = realpathSync(folder);
  if (openHere.has(path)) throw new Error(`${path} is in use by this process already`);
  openHere.add(path);
  const { lock, db } = await openLocked().catch((error: unknown) => {
    openHere.delete(path);
    throw error;
  });
  let unanswered = 0; // writes past answerWithinMs that are still under way
  let closed = false;

  async function openLocked() {
    const created = createIndexLock(folder);
    try {
      return { lock: created, db: await created.exclusive(OPEN_WITHIN_MS, openIndex) };
    } catch (error) {
      created.close();
      throw error;
    }
  }

  function openIndex() {
    const index = open<Buffer, Buffer>(folder, {
      noSubdir: false,
      encoding: "binary",
      keyEncoding: "binary",
      mapSize: MAP_BYTES,
      overlappingSync: false,
      ...({ noReadAhead: true } as object), // missing in the package's types
      eventTurnBatching: false,
    });
    index.readerCheck(); // slots of readers that were killed: they keep old pages from being used again
    return index;
  }

  function get(key: string): ObjectRecord | undefined {
    assertUsable();
    db.resetReadTxn(); // another process may have committed since the snapshot this turn began with
    const value = db.getBinary(idOf(OBJECT, key));
    return value && decode(asBuffer(value));
  }

  /** Is it the file of an object? */
  function hasFile(file: string): boolean {
    assertUsable();
    db.resetReadTxn();
    return db.doesExist(idOf(FILE, file));
  }

  /** False: there is a record already, and it stays. */
  function create(key: string, record: ObjectRecord): Promise<boolean> {
    const [id, value] = [idOf(OBJECT, key), encode(record)];
    if ("bytes" in record) return answered(() => createOnly(id, value));
    return answered(() =>
      db.ifNoExists(id, () => {
        void db.put(id, value);
        void db.put(idOf(FILE, record.file), Buffer.alloc(0));
      }),
    );
  }

  /** One instruction for LMDB's writer where ifNoExists makes three. The option is missing in the package's types. */
  function createOnly(id: Buffer, value: Buffer): Promise<boolean> {
    return db.put(id, value, { noOverwrite: true } as unknown as number);
  }

  /** Puts the record in the place of the one there was, whose file it returns. */
  function replace(key: string, record: ObjectRecord): Promise<string[]> {
    const [id, value] = [idOf(OBJECT, key), encode(record)];
    return answered(() =>
      db.transaction(() => {
        const files = removeOne(id);
        void db.put(id, value);
        if ("file" in record) void db.put(idOf(FILE, record.file), Buffer.alloc(0));
        return files;
      }),
    );
  }

  /** Removes all of them in one transaction; returns the files they had. */
  function remove(keys: readonly string[]): Promise<string[]> {
    return answered(() => db.transaction(() => keys.flatMap((key) => removeOne(idOf(OBJECT, key)))));
  }

  /**
   * Removes the record if it still is the one that was read, or puts a small object in its place.
   * @returns the files it had; undefined: it is another, or gone
   */
  function exchange(key: string, record: ObjectRecord, next?: SmallRecord): Promise<string[] | undefined> {
    const [id, read, value] = [idOf(OBJECT, key), encode(record), next && encode(next)];
    return answered(() =>
      db.transaction(() => {
        const found = db.getBinaryFast(id);
        // Read again in the same way: what is damaged in it is left out of both.
        if (!found || !read.equals(encode(decode(asBuffer(found))))) return undefined;
        const files = removeOne(id);
        if (value) void db.put(id, value);
        return files;
      }),
    );
  }

  /** Within a transaction. */
  function removeOne(id: Buffer): string[] {
    const value = db.getBinaryFast(id);
    if (!value) return [];
    const file = fileIn(value);
    void db.remove(id);
    if (file === undefined) return [];
    void db.remove(idOf(FILE, file));
    return [file];
  }

  function list(prefix: string, { after, limit }: { after?: string | undefined; limit: number }) {
    assertUsable();
    db.resetReadTxn();
    const found: { key: string; sizeBytes: number; modifiedAt: Date }[] = [];
    for (const { key: id, value } of db.getRange({ start: firstId(prefix, after), end: Buffer.of(FILE), limit })) {
      const key = id.toString("utf8", 1);
      if (!key.startsWith(prefix)) break;
      found.push({ key, ...infoIn(value) });
    }
    return found;
  }

  /** Reads no values: of an object kept in the index, listing it would read every byte. */
  function listKeys(prefix: string, { after, limit }: { after?: string | undefined; limit: number }): string[] {
    assertUsable();
    db.resetReadTxn();
    const found: string[] = [];
    for (const id of db.getKeys({ start: firstId(prefix, after), end: Buffer.of(FILE), limit })) {
      const key = id.toString("utf8", 1);
      if (!key.startsWith(prefix)) break;
      found.push(key);
    }
    return found;
  }

  /** What the index takes of the disk without using it: its file never shrinks. */
  function spareBytes(): number {
    assertUsable();
    const stats = db.getStats() as PageCounts & { free: PageCounts; pageSize: number; lastPageNumber: number };
    return (stats.lastPageNumber + 1 - META_PAGES - pagesOf(stats) - pagesOf(stats.free)) * stats.pageSize;
  }

  /** Objects and their files together, and the disk that they take in the index; without looking at them. */
  function usage(): { entries: number; sizeBytes: number } {
    assertUsable();
    db.resetReadTxn();
    const stats = db.getStats() as PageCounts & { entryCount: number; pageSize: number };
    return { entries: stats.entryCount, sizeBytes: pagesOf(stats) * stats.pageSize };
  }

  /** Throws when the index on the disk is gone: LMDB would go on writing to a file that was deleted. */
  async function ping(): Promise<void> {
    assertUsable();
    await stat(join(folder, "data.mdb"));
  }

  /** Where another process does not let go, the index stays open until this process ends, which closes it as well. */
  async function close(): Promise<void> {
    if (closed) return;
    closed = true;
    await lock.exclusive(CLOSE_WITHIN_MS, () => db.close()).then(afterClosing, unlessNotAlone);
  }

  function afterClosing(): void {
    lock.close();
    openHere.delete(path);
  }

  /** A write that LMDB never answers (a stuck disk) fails, and those after it fail at once until it does. */
  async function answered<T>(write: () => Promise<T>): Promise<T> {
    assertUsable();
    const result = lock.shared(write);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        unanswered += 1;
        const settled = () => void (unanswered -= 1);
        result.then(settled, settled);
        reject(new Unanswered(`a write was not answered within ${answerWithinMs} ms`));
      }, answerWithinMs);
      const done = <Value>(settle: (value: Value) => void) => (value: Value) => {
        clearTimeout(timer);
        settle(value);
      };
      result.then(done(resolve), done(reject));
    });
  }

  function assertUsable(): void {
    if (closed) throw new Error("the store is closed");
    if (unanswered > 0) throw new Error("an earlier write is still not answered");
  }

  return { get, hasFile, create, replace, remove, exchange, list, listKeys, spareBytes, usage, ping, close, assertUsable };
}

function unlessNotAlone(error: unknown): void {
  if (!(error instanceof NotAlone)) throw error;
}

/** The write may still be carried out. */
export class Unanswered extends Error {}

/** LMDB's copies are Buffers or plain Uint8Arrays, by their size. */
function asBuffer(value: Uint8Array): Buffer {
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

const META_PAGES = 2;
type PageCounts = { treeBranchPageCount: number; treeLeafPageCount: number; overflowPages: number };

function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: PageCounts): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

function idOf(kind: typeof OBJECT | typeof FILE, name: string): Buffer {
  const id = Buffer.allocUnsafe(1 + Buffer.byteLength(name));
  id[0] = kind;
  id.write(name, 1);
  return id;
}

/** The least id not before `prefix` and behind `after`: with a byte 0 appended it is the very next one. */
function firstId(prefix: string, after: string | undefined): Buffer {
  const least = idOf(OBJECT, prefix);
  if (after === undefined) return least;
  const next = idOf(OBJECT, `${after}\0`);
  return Buffer.compare(next, least) > 0 ? next : least;
}
