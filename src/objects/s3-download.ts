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

/** A stream that survives broken connections: it asks for the rest where the last one ended. Destroyed, it gives its connection back. */
export function resumingStream(download: Download): Readable {
  const answer: Answer = { source: download.body, unwanted: false };
  const stream = Readable.from(chunksOf(download, answer), { objectMode: false, highWaterMark: 256 * 1024 });
  const end = stream._destroy.bind(stream);
  // A generator that nobody began to read runs none of its lines, nor one that waits for its next chunk.
  stream._destroy = (error, done) => {
    answer.unwanted = true;
    answer.source.destroy();
    end(error, done);
  };
  return stream;
}

/** What is being read now. */
interface Answer {
  source: Readable;
  unwanted: boolean;
}

async function* chunksOf({ start, end, idleTimeoutMs, reopen, unavailable }: Download, answer: Answer): AsyncGenerator<Uint8Array> {
  let at = start;
  let failures = 0;
  try {
    while (at <= end) {
      const from = at;
      try {
        for await (const chunk of unlessIdle(answer.source, idleTimeoutMs)) {
          at += chunk.length;
          yield chunk;
        }
        if (at <= end) throw new Error("the answer ended too early");
      } catch (error) {
        answer.source.destroy();
        if (answer.unwanted) return;
        failures = at - from < PROGRESS_BYTES ? failures + 1 : 1;
        if (failures > MOST_FAILURES) throw unavailable(error);
        answer.source = await reopen(at).catch((again: unknown) => {
          throw unavailable(again);
        });
      }
    }
  } finally {
    answer.source.destroy();
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
