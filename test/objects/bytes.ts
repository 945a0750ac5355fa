import { createHash, randomBytes } from "node:crypto";
import type { Readable } from "node:stream";

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The bytes as a stream of pieces, whose sizes are taken in turn. */
export async function* inPieces(bytes: Uint8Array, ...sizes: number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** `bytes`, and then an error instead of an end. */
export async function* brokenAfter(bytes: Uint8Array, error: Error): AsyncGenerator<Uint8Array> {
  yield* inPieces(bytes, 64 * 1024);
  throw error;
}

/** Many bytes without holding them: one random block again and again, each time with another beginning. */
export function longBody(sizeBytes: number) {
  const block = randomBytes(64 * 1024);
  const hash = createHash("sha256");
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < sizeBytes; at += block.length) {
      const chunk = Buffer.from(block.subarray(0, Math.min(block.length, sizeBytes - at)));
      if (chunk.length >= 8) chunk.writeDoubleLE(at);
      hash.update(chunk);
      yield chunk;
    }
  }
  return { chunks: chunks(), sha256: () => hash.digest("hex") };
}

export async function hashOf(stream: Readable): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sha256: hash.digest("hex"), sizeBytes };
}

export async function all(stream: Readable): Promise<Buffer> {
  return Buffer.concat((await stream.toArray()) as Uint8Array[]);
}

/** How much more memory the process had, at the most, while `work` was done. */
export async function memoryGrowth(work: () => Promise<void>): Promise<number> {
  const before = process.memoryUsage().rss;
  let most = before;
  const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 20);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return most - before;
}
