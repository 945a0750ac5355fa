import type { Log } from "../core/log.ts";

/** Something that runs until it is stopped. Stopping before it began, or twice, is fine. */
export interface Running {
  name: string;
  stop(): Promise<void>;
}

/**
 * On SIGTERM or SIGINT stops everything in the given order, then the process. What does not stop in time is left
 * behind: whatever was acknowledged is durable, and whatever was in hand is done again.
 */
export function stopOnSignal(running: readonly Running[], timeoutMs: number, log: Log): void {
  let stopping = false;
  async function stopAll(signal: string): Promise<void> {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, "stopping");
    setTimeout(() => {
      log.error({ timeoutMs }, "did not stop in time and is ended");
      process.exit(1);
    }, timeoutMs).unref();
    for (const { name, stop } of running) {
      await stop().catch((err: unknown) => log.error({ err, name }, "could not be stopped cleanly"));
    }
    log.info("stopped");
    process.exit(0);
  }
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stopAll(signal));
}
