/** Waits, or returns early when the signal aborts. */
export function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, delayMs);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** How long to wait after so many failures in a row: doubling, with up to a quarter of jitter so that many do not come back at once. */
export function backoffMs(failures: number, { firstMs, mostMs }: { firstMs: number; mostMs: number }): number {
  const base = Math.min(mostMs, firstMs * 2 ** Math.max(0, failures - 1));
  return base * (1 - Math.random() / 4);
}
