import type { Readable } from "node:stream";
import { Failure } from "../core/errors.ts";

/**
 * Reads a stream's first bytes by its events, which costs a small upload less than an iterator does.
 * Stops, with the stream paused, as soon as more than `mostBytes` have come.
 * @returns `ended`: that was all of it
 * @throws Failure MALFORMED_REQUEST when the stream breaks off before its end
 */
export function collectUpTo(source: Readable, mostBytes: number): Promise<{ chunks: Buffer[]; sizeBytes: number; ended: boolean }> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes <= mostBytes) return;
      source.pause();
      stop();
      resolve({ chunks, sizeBytes, ended: false });
    };
    const onEnd = () => {
      stop();
      resolve({ chunks, sizeBytes, ended: true });
    };
    const onFail = (error?: Error) => {
      stop();
      reject(brokenOff(error));
    };
    const stop = () => source.off("data", onData).off("end", onEnd).off("error", onFail).off("close", onFail);
    if (source.destroyed) return onFail(source.errored ?? undefined);
    source.on("end", onEnd).on("error", onFail).on("close", onFail).on("data", onData);
  });
}

/** The client went away, or did not send what it said it would. */
export function brokenOff(cause?: unknown): Failure {
  return new Failure("MALFORMED_REQUEST", "The connection closed before the last byte.", { cause });
}
