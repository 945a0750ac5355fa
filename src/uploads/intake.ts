import type { Readable } from "node:stream";
import { Failure } from "../core/errors.ts";
import { brokenOff } from "../http/collect.ts";
import type { Measure } from "../objects/measure.ts";

export const PAUSE_ABOVE_BYTES = 262_144; // of chunks that nobody has taken yet
const CHUNK_BYTES = 65_536; // what a socket brings at once

/** Memory that a stream to a store holds at most besides the store's own: the queue, the chunk past its limit, one more in the request. */
export const INTAKE_MEMORY_BYTES = PAUSE_ABOVE_BYTES + 2 * CHUNK_BYTES;
export const RESUME_BELOW_BYTES = 131_072; // and not at zero, so that the writer never waits for the socket to start again

/**
 * The chunks that were collected and all that follow, measured as it comes. A queue filled by the stream's events: the
 * stream's own iterator copies what it has buffered and costs several times as much for each chunk.
 * Breaking off leaves the stream paused, not destroyed: the answer still has to go out over the request's socket.
 * @throws (from next) Failure FILE_TOO_LARGE past the limit, MALFORMED_REQUEST when the stream breaks off before its end
 */
export function restOf(collected: Buffer[], source: Readable, measure: Measure, limitBytes: number): AsyncIterableIterator<Buffer> {
  let queue = collected;
  let queuedBytes = 0;
  for (const chunk of collected) {
    measure.update(chunk);
    queuedBytes += chunk.length;
  }
  let taken = 0;
  let end: { failure?: Failure } | undefined;
  let wake: (() => void) | undefined;

  const finish = (failure?: Failure) => {
    end ??= failure ? { failure } : {};
    source.off("data", onData).off("end", onEnd).off("error", onFail).off("close", onFail);
    wake?.();
  };
  const onData = (chunk: Buffer) => {
    measure.update(chunk);
    if (measure.sizeBytes > limitBytes) {
      source.pause();
      return finish(new Failure("FILE_TOO_LARGE"));
    }
    queue.push(chunk);
    queuedBytes += chunk.length;
    if (queuedBytes > PAUSE_ABOVE_BYTES) source.pause();
    wake?.();
  };
  const onEnd = () => finish();
  const onFail = (error?: Error) => finish(brokenOff(error));
  if (source.readableEnded) finish(); // pausing on the very last chunk does not hold the end back
  else if (source.destroyed) onFail(source.errored ?? undefined);
  else source.on("end", onEnd).on("error", onFail).on("close", onFail).on("data", onData).resume();

  async function next(): Promise<IteratorResult<Buffer>> {
    while (taken === queue.length) {
      if (end?.failure) throw end.failure;
      if (end) return { done: true, value: undefined };
      [queue, taken] = [[], 0];
      await new Promise<void>((resolve) => (wake = resolve));
      wake = undefined;
    }
    if (end?.failure) throw end.failure; // what is still queued belongs to nothing
    const chunk = queue[taken]!;
    taken++;
    queuedBytes -= chunk.length;
    if (queuedBytes < RESUME_BELOW_BYTES && !end && source.isPaused()) source.resume();
    return { done: false, value: chunk };
  }

  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next,
    async return() {
      source.pause();
      finish();
      return { done: true, value: undefined };
    },
  };
}
