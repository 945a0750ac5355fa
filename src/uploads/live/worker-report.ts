import { z } from "zod";
import type { Clock } from "../../core/clock.ts";
import { Unavailable } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import type { Doing } from "../../stream/consumer.ts";
import type { Presence } from "../../stream/presence.ts";

/** What a worker says of itself. Times are its own clock's. */
export const WorkerReport = z.object({
  state: z.enum(["idle", "working", "paused"]),
  /** Of the batch in hand. */
  entries: z.number().nullable(),
  /** What it waits for: a dependency's name. */
  because: z.string().nullable(),
  /** Since it began. */
  settled: z.number(),
  started_at: z.iso.datetime(),
  /** When it last settled something. */
  active_at: z.iso.datetime().nullable(),
});
export type WorkerReport = z.infer<typeof WorkerReport>;

const SAY_EVERY_MS = 2_000;

/** Says in Redis that this worker is alive, and what it is at, again and again; Redis forgets it soon after it fell silent. */
export function createWorkerReport({ presence, name, clock, log }: { presence: Presence; name: string; clock: Clock; log: Log }) {
  const startedAt = clock.now().toISOString();
  let doing: Doing = { state: "idle" };
  let settledCount = 0;
  let activeAt: string | null = null;
  let saying: Promise<void> | undefined;
  let stopped = false;
  const timer = setInterval(() => void say(), SAY_EVERY_MS).unref();
  void say();

  function tell(now: Doing): void {
    const turned = now.state !== doing.state;
    doing = now;
    if (turned && now.state === "paused") void say(); // a batch is over in a moment: that is seen when it lasts
  }

  function settled(uploads: number): void {
    settledCount += uploads;
    activeAt = clock.now().toISOString();
  }

  function say(): Promise<void> {
    if (stopped) return Promise.resolve();
    return (saying ??= sayNow().finally(() => (saying = undefined)));
  }

  async function sayNow(): Promise<void> {
    const report: WorkerReport = {
      state: doing.state, entries: doing.state === "working" ? doing.entries : null, because: doing.state === "paused" ? doing.because : null,
      settled: settledCount, started_at: startedAt, active_at: activeAt,
    };
    await presence.say(name, JSON.stringify(report)).catch((err: unknown) => {
      log[err instanceof Unavailable && !err.refused ? "debug" : "warn"]({ err }, "the worker could not say that it is alive");
    });
  }

  async function stop(): Promise<void> {
    stopped = true;
    clearInterval(timer);
    await saying;
    await presence.leave(name);
  }

  return { tell, settled, say, stop };
}

/** Under the prefix of this installation. */
export const WORKERS = "workers";
