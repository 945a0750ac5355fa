import { pause } from "./backoff.ts";
import { Unavailable } from "./errors.ts";
import type { Log } from "./log.ts";

export interface Job {
  name: string;
  everyMs: number;
  runOnce: () => Promise<unknown>;
}

/**
 * Runs a job again and again until the signal aborts. What it throws is logged, never lost. A failure changes nothing
 * of the rhythm: it is slow enough as a pause, and what was promised counts from the moment a dependency is back.
 * The job in hand is waited for: a long one has to be told of the signal itself, and may throw its reason.
 */
export async function repeat({ name, everyMs, runOnce }: Job, signal: AbortSignal, log: Log): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await runOnce();
      failures = 0;
    } catch (err) {
      if (signal.aborted) return;
      failures++;
      log[err instanceof Unavailable && !err.refused ? "warn" : "error"]({ err, job: name, failures }, "a job failed and will be tried again");
    }
    await pause(everyMs, signal);
  }
}
