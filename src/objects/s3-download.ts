import { Readable } from "node:stream";
import type { Unavailable } from "../core/errors.ts";

/** Answers in a row that end too early, each with less than this, before the download is given up. */
const MOST_FAILURES = 3;
const PROGRESS_BYTES = 64 * 1024;

export interface Download {
  /** The answer to the first request, whose bytes begin at `start`. */
  body: Readable;
  start: number;
  /** The last byte, included. */
  end: number;
  idleTimeoutMs: number;
  /** Asks again for the rest of the same version of the object. */
  reopen(start: number): Promise<Readable>;
  unavailable(error: unknown): Unavailable;
}

/** A stream that survives broken connections: it asks for the rest where the last one ended. */
export function resumingStream(download: Download): Readable {
  return Readable.from(chunksOf(download), { objectMode: false, highWaterMark: 256 * 1024 });
}

async function* chunksOf({ body, start, end, idleTimeoutMs, reopen, unavailable }: Download): AsyncGenerator<Uint8Array> {
  let source = body;
  let at = start;
  let failures = 0;
  try {
    while (at <= end) {
      const from = at;
      try {
        for await (const chunk of unlessIdle(source, idleTimeoutMs)) {
          at += chunk.length;
          yield chunk;
        }
        if (at <= end) throw new Error("the answer ended too early");
      } catch (error) {
        source.destroy();
        failures = at - from < PROGRESS_BYTES ? failures + 1 : 1;
        if (failures > MOST_FAILURES) throw unavailable(error);
        source = await reopen(at).catch((again: unknown) => {
          throw unavailable(again);
        });
      }
    }
  } finally {
    source.destroy();
  }
}

/** The time runs only while somebody waits for a chunk: a slow reader is not a silent server. */
async function* unlessIdle(source: Readable, idleTimeoutMs: number): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  for (;;) {
    const timer = setTimeout(() => source.destroy(new Error(`silent for ${idleTimeoutMs} ms`)), idleTimeoutMs);
    const next = await iterator.next().finally(() => clearTimeout(timer));
    if (next.done) return;
    yield next.value;
  }
}
