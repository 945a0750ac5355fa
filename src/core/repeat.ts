import { backoffMs, pause } from "./backoff.ts";
import { Unavailable } from "./errors.ts";
import type { Log } from "./log.ts";

export interface Job {
  name: string;
  everyMs: number;
  runOnce: () => Promise<unknown>;
}

/** Runs a job again and again until the signal aborts, later when it fails. What it throws is logged, never lost. */
export async function repeat({ name, everyMs, runOnce }: Job, signal: AbortSignal, log: Log): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await runOnce();
      failures = 0;
    } catch (err) {
      failures++;
      log[err instanceof Unavailable ? "warn" : "error"]({ err, job: name, failures }, "a job failed and will be tried again");
    }
    await pause(failures === 0 ? everyMs : Math.max(everyMs, backoffMs(failures, { firstMs: everyMs, mostMs: everyMs * 8 })), signal);
  }
}
