import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { orNull } from "../core/or-null.ts";
import { within } from "../core/within.ts";
import { backlogLength, oldestAgeMs } from "../stream/backlog.ts";
import type { AcceptEvents } from "./accept.ts";
import type { Spool } from "./spool.ts";
import type { Stats } from "./stats/stats.ts";
import type { TurnedAway } from "./turned-away.ts";

/** Nobody waits longer to hear how things are: who is silent has no word in it. */
const BUDGET_MS = 1_000;
const SPOOL_BUDGET_MS = 2_000; // a bucket may have to be listed page by page

export type Intake = ReturnType<typeof createIntake>;

/** What becomes of events between their acceptance and the figures. Null: whoever knows it does not answer. */
export function createIntake({ redis, stream, spool, stats, acceptEvents, turnedAway, weighEveryMs, clock }: {
  redis: Redis;
  stream: string;
  spool: Spool;
  stats: Stats;
  acceptEvents: AcceptEvents;
  turnedAway: TurnedAway;
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

  /** As the API shows it. What is accepted and refused is of this web process since its start. */
  async function read() {
    const degraded: string[] = [];
    const [waiting, oldestMs, spooled, dead] = await Promise.all([
      orNull(within(BUDGET_MS, "redis", backlogLength(redis, stream)), degraded), orNull(within(BUDGET_MS, "redis", oldestAgeMs(redis, stream)), degraded),
      orNull(within(SPOOL_BUDGET_MS, "inbox", weighSpool()), degraded), orNull(within(BUDGET_MS, "postgres", stats.deadLetters()), degraded),
    ]);
    const { refused, overQuota, spell } = turnedAway.all();
    return {
      waiting_batches: waiting,
      oldest_seconds: oldestMs === null ? null : Math.round((oldestMs ?? 0) / 1000),
      spooled_units: spooled && spooled.units,
      spooled_bytes: spooled && spooled.sizeBytes,
      dead_batches: dead && dead.batches,
      dead_events: dead && dead.events,
      accepted: acceptEvents.counted().accepted,
      refused_requests: refused,
      over_quota_requests: overQuota,
      last_refusals: spell ?? null,
      degraded,
      timestamp: clock.now(),
    };
  }

  return { read };
}
