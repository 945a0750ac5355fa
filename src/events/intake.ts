import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { Unavailable } from "../core/errors.ts";
import { backlogLength, oldestAgeMs } from "../stream/backlog.ts";
import type { AcceptEvents } from "./accept.ts";
import type { Spool } from "./spool.ts";
import type { Stats } from "./stats/stats.ts";

export type Intake = ReturnType<typeof createIntake>;

/** What becomes of events between their acceptance and the figures. Null: whoever knows it does not answer. */
export function createIntake({ redis, stream, spool, stats, acceptEvents, weighEveryMs, clock }: {
  redis: Redis;
  stream: string;
  spool: Spool;
  stats: Stats;
  acceptEvents: AcceptEvents;
  weighEveryMs: number;
  clock: Clock;
}) {
  let reading: { at: number; spooled: Promise<{ units: number; sizeBytes: number }> } | undefined;

  /** Listing a bucket costs money, and everybody who looks at a page asks. */
  function weighSpool(): Promise<{ units: number; sizeBytes: number }> {
    const now = performance.now();
    if (!reading || now - reading.at >= weighEveryMs) reading = { at: now, spooled: spool.weigh() };
    return reading.spooled;
  }

  /** As the API shows it. `accepted` and `refused` are of this web process since its start; `refused`: for want of room or of a dependency. */
  async function read() {
    const degraded: string[] = [];
    const orNull = (error: unknown): null => {
      if (!(error instanceof Unavailable)) throw error;
      if (!degraded.includes(error.dependency)) degraded.push(error.dependency);
      return null;
    };
    const [waiting, oldestMs, spooled, dead] = await Promise.all([
      backlogLength(redis, stream).catch(orNull), oldestAgeMs(redis, stream).catch(orNull), weighSpool().catch(orNull), stats.deadLetters().catch(orNull),
    ]);
    const { accepted, refused } = acceptEvents.counted();
    return {
      waiting_batches: waiting,
      oldest_seconds: oldestMs === null ? null : Math.round((oldestMs ?? 0) / 1000),
      spooled_units: spooled && spooled.units,
      spooled_bytes: spooled && spooled.sizeBytes,
      dead_batches: dead && dead.batches,
      dead_events: dead && dead.events,
      accepted,
      refused,
      degraded,
      timestamp: clock.now(),
    };
  }

  return { read };
}
