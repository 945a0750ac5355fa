import type { Readable } from "node:stream";
import { Failure } from "../../core/errors.ts";
import { brokenOff } from "../../http/collect.ts";
import { PAUSE_ABOVE_BYTES, RESUME_BELOW_BYTES } from "../intake.ts";

/** When a piece ends although more may come, so that what came is durable soon, whatever happens then. */
export interface PieceLimits {
  /** Nothing came for so long, and what did is worth a piece: the connection may be dead without our knowing. */
  silenceMs: number;
  leastBeforeSilenceBytes: number;
  /** It is so old, and not too small to be worth a piece of its own. */
  ageMs: number;
  leastBytes: number;
  /** It is so old, however small. */
  mostAgeMs: number;
}

/** How a body came to its end. `stopped`: by us. */
export type Ending = "ended" | "broken" | "stopped" | "overlong";

export type PieceIntake = ReturnType<typeof openPieceIntake>;

/**
 * Cuts a body into pieces as it comes. Unlike the one-piece intake it gives out all that has come when the body breaks off:
 * whoever sends to a resumable upload goes on from there.
 * @param mostBytes  of the whole body
 * @param whyStopped  what is told to whom we stopped
 */
export function openPieceIntake(source: Readable, mostBytes: number, limits: PieceLimits, whyStopped: () => Failure) {
  const queue: Buffer[] = [];
  let queuedBytes = 0;
  let cameBytes = 0;
  let heardAt = performance.now();
  let ending: Ending | undefined;
  let wake: (() => void) | undefined;

  const end = (how: Ending) => {
    if (ending) return;
    ending = how;
    source.off("data", onData).off("end", onEnd).off("error", onBroken).off("close", onBroken);
    if (how !== "ended") source.pause(); // not destroyed: the answer still has to go out
    wake?.();
  };
  const onData = (chunk: Buffer) => {
    heardAt = performance.now();
    cameBytes += chunk.length;
    if (cameBytes > mostBytes) return end("overlong");
    queue.push(chunk);
    queuedBytes += chunk.length;
    if (queuedBytes > PAUSE_ABOVE_BYTES) source.pause();
    wake?.();
  };
  const onEnd = () => end("ended");
  const onBroken = () => end("broken");
  source.on("error", () => {}); // also once we have stopped listening
  if (source.readableEnded) end("ended");
  else if (source.destroyed) end("broken");
  else source.on("end", onEnd).on("error", onBroken).on("close", onBroken).on("data", onData);

  /** Waits for the next byte. False: there is none, and `ending` says why. */
  async function hasMore(): Promise<boolean> {
    while (queue.length === 0 && !ending) await news();
    return queue.length > 0;
  }

  /**
   * The next piece, as its chunks come.
   * @param whole  all of the body is one piece, or none: breaking off throws
   * @throws Failure FILE_TOO_LARGE past the limit; where it has to be whole MALFORMED_REQUEST when it is not, or why it was stopped
   */
  async function* piece({ whole = false } = {}): AsyncGenerator<Buffer, void> {
    const beganAt = performance.now();
    let sizeBytes = 0;
    for (;;) {
      while (queue.length === 0 && !ending) {
        const inTime = await news(whole || sizeBytes === 0 ? undefined : silenceAfter(sizeBytes, beganAt));
        if (!inTime && queue.length === 0) return;
      }
      const why = failure();
      if (why && (whole || ending === "overlong")) throw why;
      const chunk = queue.shift();
      if (!chunk) return;
      queuedBytes -= chunk.length;
      if (queuedBytes < RESUME_BELOW_BYTES && !ending && source.isPaused()) source.resume();
      sizeBytes += chunk.length;
      yield chunk;
      const ageMs = performance.now() - beganAt;
      if (!whole && (ageMs >= limits.mostAgeMs || (ageMs >= limits.ageMs && sizeBytes >= limits.leastBytes))) return;
    }
  }

  /** Why not all came that was to; undefined: it did, or still may. */
  function failure(): Failure | undefined {
    if (ending === "overlong") return overlong();
    if (ending === "broken") return brokenOff();
    return ending === "stopped" ? whyStopped() : undefined;
  }

  function silenceAfter(sizeBytes: number, beganAt: number): number {
    return sizeBytes >= limits.leastBeforeSilenceBytes ? limits.silenceMs : Math.max(limits.silenceMs, limits.mostAgeMs - (performance.now() - beganAt));
  }

  /** @returns false: nothing happened in all that time */
  function news(withinMs?: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = withinMs === undefined ? undefined : setTimeout(() => done(false), withinMs);
      const done = (happened: boolean) => {
        clearTimeout(timer);
        wake = undefined;
        resolve(happened);
      };
      wake = () => done(true);
    });
  }

  return {
    hasMore,
    piece,
    /** Takes nothing more. What has come is still given out. */
    stop: () => end("stopped"),
    ending: () => ending,
    failure,
    /** For how long nothing has come although we wanted it. */
    silentMs: () => (ending || source.isPaused() || queue.length > 0 ? 0 : performance.now() - heardAt),
  };
}

export function overlong(): Failure {
  return new Failure("FILE_TOO_LARGE", "These are more bytes than the upload has left to come.");
}
