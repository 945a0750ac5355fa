import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { Damaged } from "./object-store.ts";

/** An object up to this size is held in memory until it has proved right. */
export const WHOLE_BYTES = 256 * 1024;

/**
 * A whole object on its way to somebody who takes it for good. Its last chunk (a small object: all of it) is held back
 * until size and hash have proved right, so whoever reads it gets the right bytes or too few of them, never the wrong ones.
 * sha256 passes 1.9 GB/s.
 * @throws Damaged, before the first byte if that tells; else it is the stream's error
 */
export async function checkedStream(source: Readable, expected: { sizeBytes: number; sha256: string }): Promise<Readable> {
  return readableOf(checkedChunks(source, expected), source);
}

/**
 * A stream of chunks that are checked on their way from `source`.
 * @throws what the first of them throws; what comes later is the stream's error
 */
export async function readableOf(chunks: AsyncGenerator<Uint8Array, undefined>, source: Readable): Promise<Readable> {
  let first: Promise<IteratorResult<Uint8Array>> | undefined = Promise.resolve(await chunks.next());
  return new Readable({
    highWaterMark: 1, // the source reads ahead, and one chunk is held back: that is enough in memory
    read() {
      const next = first ?? chunks.next();
      first = undefined;
      next.then(({ done, value }) => void this.push(done ? null : value), (error: Error) => void this.destroy(error));
    },
    destroy(error, done) {
      source.destroy();
      done(error);
    },
  });
}

async function* checkedChunks(source: Readable, { sizeBytes, sha256 }: { sizeBytes: number; sha256: string }): AsyncGenerator<Uint8Array, undefined> {
  const hash = createHash("sha256");
  const held: Uint8Array[] = [];
  let readBytes = 0;
  for await (const chunk of source as AsyncIterable<Uint8Array>) {
    readBytes += chunk.length;
    if (readBytes > sizeBytes) break;
    hash.update(chunk);
    held.push(chunk);
    if (sizeBytes > WHOLE_BYTES && held.length > 1) yield held.shift()!;
  }
  if (readBytes !== sizeBytes) throw new Damaged("size", `it has ${readBytes > sizeBytes ? "more" : "fewer"} than its ${sizeBytes} bytes`);
  const found = hash.digest("hex");
  if (found !== sha256) throw new Damaged("hash", `its bytes have the sha256 ${found}`);
  yield* held;
}
