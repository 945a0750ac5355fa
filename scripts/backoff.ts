/** How long to wait before a process that died is started again. */
const FIRST_MS = 500, LONGEST_MS = 30_000;
/** Whoever lived this long died of something new. */
const STEADY_MS = 60_000;

export interface Backoff {
  /** @param livedMs how long the last life was @returns milliseconds to wait */
  next(livedMs: number): number;
}

export function createBackoff(): Backoff {
  let waitMs = FIRST_MS;
  return {
    next(livedMs) {
      if (livedMs >= STEADY_MS) waitMs = FIRST_MS;
      const chosen = waitMs;
      waitMs = Math.min(waitMs * 2, LONGEST_MS);
      return chosen;
    },
  };
}
