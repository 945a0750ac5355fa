import { setMaxListeners } from "node:events";

/** A second Ctrl-C sooner than this is npm passing on the first one. */
const REPEATED_SIGNAL_MS = 1_000;
const EXIT_CODE = 130;

/** The first order to stop ends the load and leads to the report; a later one ends everything without waiting. */
export function listenForStop(): { signal: AbortSignal; close(): void } {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal); // each of thousands of clients listens
  let firstAt = 0;
  const stop = () => {
    if (firstAt === 0) {
      firstAt = Date.now();
      controller.abort();
    } else if (Date.now() - firstAt > REPEATED_SIGNAL_MS) {
      process.exit(EXIT_CODE); // The browser goes with us: it ends when its pipe does.
    }
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  return {
    signal: controller.signal,
    close() {
      for (const signal of signals) process.removeListener(signal, stop);
    },
  };
}
