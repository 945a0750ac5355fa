import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import { earlierNow } from "../db/earlier-now.ts";
import type { Database } from "../db/pool.ts";
import type { TimeSeries } from "../db/time-series.ts";
import { dayOf, quarterOf } from "./quarters.ts";
import * as queries from "./queries.ts";

const EVENTS = "events";
const LOCK = "connectstorm:events-upkeep";
const DAY_MS = 86_400_000;
/** An entry that was recorded may wait to be delivered again for as long as no worker runs, and a dead letter to be put back. */
const BATCHES_LONGER_DAYS = 30;

/**
 * Keeps the chunks of the events: makes the coming ones, and drops those that are wholly older than the retention. What is
 * remembered of event ids goes with the same retention, by when they were recorded, batches stay longer; figures have one of their own.
 */
export function createEventsUpkeep({ db, timeSeries, retentionDays, rollupRetentionDays, stopping, clock, log }: {
  db: Database;
  timeSeries: () => Promise<TimeSeries>;
  retentionDays: number | undefined;
  rollupRetentionDays: number | undefined;
  stopping: AbortSignal;
  clock: Clock;
  log: Log;
}) {
  /** One process at a time. */
  async function runOnce(): Promise<void> {
    await db.exclusively(LOCK, async () => {
      const series = await timeSeries();
      await series.prepare(EVENTS, clock.now());
      const nowMs = (await earlierNow(db, clock)).getTime();
      if (retentionDays !== undefined) await dropEvents(series, new Date(nowMs - retentionDays * DAY_MS));
      if (rollupRetentionDays !== undefined) await dropFigures(dayOf(quarterOf(nowMs - rollupRetentionDays * DAY_MS)));
    });
  }

  async function dropEvents(series: TimeSeries, until: Date): Promise<void> {
    const events = await series.dropBefore(EVENTS, until, async () => {});
    const ids = await inParts(() => queries.deleteMemory(db, "event_ids", until));
    const batches = await inParts(() => queries.deleteMemory(db, "event_batches", new Date(until.getTime() - BATCHES_LONGER_DAYS * DAY_MS)));
    if (events + ids + batches > 0) log.info({ events, ids, batches, before: until }, "events past their retention were dropped");
  }

  async function dropFigures(day: string): Promise<void> {
    let rows = 0;
    for (let siteId = await queries.selectNextSite(db, ""); siteId !== undefined; siteId = await queries.selectNextSite(db, siteId)) {
      for (const table of queries.FIGURE_TABLES) rows += await inParts(() => queries.deleteFigures(db, table, siteId!, day));
    }
    if (rows > 0) log.info({ rows, day }, "figures of events past their retention were dropped");
  }

  /** However much there is, no statement takes long. */
  async function inParts(remove: () => Promise<queries.Deleted>): Promise<number> {
    for (let removed = 0; ;) {
      stopping.throwIfAborted();
      const { rows, isAll } = await remove();
      removed += rows;
      if (isAll) return removed;
    }
  }

  return { runOnce };
}
