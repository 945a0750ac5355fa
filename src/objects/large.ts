import { createHash, randomUUID } from "node:crypto";
import { close, fdatasync, fstat, mkdirSync, open as openFile, read as readFile, write } from "node:fs";
import { link, mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { passGarbage } from "../core/garbage.ts";
import { Damaged } from "./object-store.ts";
import type { Space } from "./space.ts";
import type { Trouble } from "./trouble.ts";

/** Two hexadecimal digits, for not too many files are to be in one folder; in it hash of the key and a UUID. */
const FAN_OUT = /^[0-9a-f]{2}$/;
export const FILE_NAME = /^[0-9a-f]{2}\/[0-9a-f]{64}-[0-9a-f-]{36}$/;
export const FILE_NAME_BYTES = 104;

const [openAsync, closeAsync, fdatasyncAsync, fstatAsync] = [promisify(openFile), promisify(close), promisify(fdatasync), promisify(fstat)];
const [readAsync, writeAsync] = [promisify(readFile), promisify(write)];

/** One write; less costs a trip to the thread pool each, more gains nothing. */
const WRITE_BYTES = 512 * 1024;
const READ_BYTES = 512 * 1024;
/** One is filled while the other is written. */
export const FILE_BUFFER_BYTES = 2 * WRITE_BYTES;

/** Where link(2) is not possible; ENOENT: the file was removed or replaced in this moment. */
const NO_LINK = new Set(["EXDEV", "EMLINK", "EPERM", "ENOTSUP", "ENOENT"]);

/** There is no such file; all but the first: a record whose file name is damaged. */
const NO_FILE = new Set(["ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE"]);
/** The disk, or a file system that has checksums, does not give these bytes. */
const UNREADABLE = new Set(["EIO", "EBADMSG", "EUCLEAN"]);

/**
 * The files of a disk store. A file is written under its final name, which nobody else can have (hash of the key and
 * a random part) and nobody knows until its record is committed; so there is no temporary name and no rename.
 * What has no record is left over from a process that was killed, and is swept.
 */
export function openLargeFiles(folder: string, { space, trouble }: { space: Space; trouble: Trouble }) {
  const { disk, unavailable } = trouble;
  mkdirSync(folder, { recursive: true });
  const known = new Set<string>(); // fan-out folders that exist, durably

  /** Writes the chunks to a new file, flushed with its folder; returns its name. Leaves nothing when it fails. */
  async function write(key: string, chunks: AsyncIterable<Uint8Array>): Promise<{ file: string; sizeBytes: number }> {
    const file = await disk(() => newName(key));
    const path = join(folder, file);
    try {
      const fd = await disk(openAsync(path, "wx", 0o640));
      let sizeBytes: number;
      try {
        sizeBytes = await writeChunks(fd, chunks);
        await disk(Promise.all([fdatasyncAsync(fd), flushFolder(dirname(path))]));
        // A body slower than a buffer in all the time the sweeper waits.
        if ((await disk(fstatAsync(fd))).nlink === 0) await disk(() => Promise.reject(new Error("the file was swept while it was written")));
      } finally {
        await disk(closeAsync(fd));
      }
      return { file, sizeBytes };
    } catch (error) {
      await remove([file]);
      throw error;
    }
  }

  /**
   * One write is under way while the next buffer is filled. Chunks are copied, so that each of them is garbage while it
   * is young: kept until they are written they outlive two collections, and V8 marks its whole heap to get rid of them.
   */
  async function writeChunks(fd: number, chunks: AsyncIterable<Uint8Array>): Promise<number> {
    let sizeBytes = 0;
    let [filling, writing] = [takeBuffer(), takeBuffer()];
    let filled = 0;
    let underWay: Promise<void> = Promise.resolve();

    async function flush(): Promise<void> {
      await underWay;
      await disk(() => space.take(filled));
      underWay = disk(writeAll(fd, filling.subarray(0, filled), sizeBytes));
      underWay.catch(() => {}); // awaited later; the body may throw before that
      sizeBytes += filled;
      [filling, writing, filled] = [writing, filling, 0];
    }

    try {
      for await (const chunk of chunks) {
        for (let at = 0; at < chunk.length; ) {
          const length = Math.min(chunk.length - at, WRITE_BYTES - filled);
          filling.set(length === chunk.length ? chunk : chunk.subarray(at, at + length), filled);
          filled += length;
          at += length;
          if (filled === WRITE_BYTES) await flush();
        }
      }
      if (filled > 0) await flush();
    } finally {
      await underWay.catch(() => {}); // neither descriptor nor buffers may be another's under a write
      giveBack(filling, writing);
    }
    await underWay;
    return sizeBytes;
  }

  /** A second name for another store's file. False: not possible between these two folders. */
  async function adopt(key: string, path: string): Promise<string | false> {
    return disk(async () => {
      const file = await newName(key);
      try {
        await link(path, join(folder, file));
      } catch (error) {
        if (NO_LINK.has((error as NodeJS.ErrnoException).code ?? "")) return false;
        throw error;
      }
      await flushFolder(dirname(join(folder, file)));
      return file;
    });
  }

  /**
   * Opened before the promise resolves: a remove or overwrite afterwards does not disturb the stream.
   * @throws Damaged when there is no such file, or, as the stream's error, when it is too short or cannot be read
   */
  async function read(file: string, start: number, end: number): Promise<Readable> {
    const fd = await openAsync(join(folder, file), "r").catch(async (error: unknown) => {
      throw await toDamage(error);
    });
    let at = start;
    let underWay: Promise<void> = Promise.resolve();

    async function readNext(stream: Readable): Promise<void> {
      const chunk = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, end + 1 - at));
      const { bytesRead } = await readAsync(fd, chunk, 0, chunk.length, at);
      if (bytesRead === 0) throw new Damaged("size", `the file ends after ${at} bytes, of which its record knows more`);
      at += bytesRead;
      passGarbage(bytesRead);
      stream.push(chunk.subarray(0, bytesRead));
      if (at > end) stream.push(null);
    }

    return new Readable({
      highWaterMark: READ_BYTES,
      read() {
        underWay = readNext(this).catch(async (error: unknown) => void this.destroy(await unavailable(await toDamage(error))));
      },
      destroy(error, done) {
        void underWay.then(() => close(fd, () => done(error))); // not under a read: the number may be another file's by then
      },
    });
  }

  /** The same error, unless it says that this one file is gone or rotten while the folder is well. */
  async function toDamage(error: unknown): Promise<unknown> {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (UNREADABLE.has(code)) return new Damaged("unreadable", `the disk does not give the bytes (${code})`, { cause: error });
    if (!NO_FILE.has(code)) return error;
    return stat(folder).then(() => new Damaged("missing", "the record's file is gone", { cause: error }), (gone: unknown) => gone);
  }

  /** Best effort: what cannot be unlinked now is swept later, and its object is gone already. */
  async function remove(files: readonly string[]): Promise<void> {
    await Promise.allSettled(files.map((file) => rm(join(folder, file), { force: true })));
  }

  /** All files not written to since `olderThanMs`, in portions of one folder. What else lies there is not ours. */
  async function* untouched(olderThanMs: number): AsyncGenerator<string[]> {
    const before = Date.now() - olderThanMs;
    for (const fanOut of (await readdir(folder)).filter((name) => FAN_OUT.test(name))) {
      const files: string[] = [];
      for (const name of await readdir(join(folder, fanOut))) {
        const file = join(fanOut, name);
        if (!FILE_NAME.test(file)) continue;
        const found = await stat(join(folder, file)).catch(() => undefined); // removed in this moment
        // ctime, as linking sets it: an adopted file keeps the mtime of its bytes
        if (found && Math.max(found.mtimeMs, found.ctimeMs) < before) files.push(file);
      }
      yield files;
    }
  }

  async function newName(key: string): Promise<string> {
    const hash = createHash("sha256").update(key).digest("hex");
    const fanOut = hash.slice(0, 2);
    if (!known.has(fanOut)) {
      await mkdir(join(folder, fanOut)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
      await flushFolder(folder);
      known.add(fanOut);
    }
    return join(fanOut, `${hash}-${randomUUID()}`);
  }

  return { write, adopt, read, remove, untouched, pathOf: (file: string) => join(folder, file) };
}

export type LargeFiles = ReturnType<typeof openLargeFiles>;

/** One system call if it can be; a write may take less than it was given (a nearly full disk, over 2 GiB). */
async function writeAll(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await writeAsync(fd, bytes, at, bytes.length - at, position + at);
    if (bytesWritten === 0) throw Object.assign(new Error("nothing could be written"), { code: "EIO" });
    at += bytesWritten;
  }
}

/** Buffers of writers that are done, for the next ones. */
const spareBuffers: Buffer[] = [];
const MOST_SPARE_BUFFERS = 16;

function takeBuffer(): Buffer {
  return spareBuffers.pop() ?? Buffer.allocUnsafeSlow(WRITE_BYTES);
}

function giveBack(...buffers: Buffer[]): void {
  spareBuffers.push(...buffers.slice(0, Math.max(0, MOST_SPARE_BUFFERS - spareBuffers.length)));
}


async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
