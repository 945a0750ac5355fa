import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Database } from "../db/pool.ts";
import type { TimeSeries } from "../db/time-series.ts";
import { dayOf, quarterOf } from "./quarters.ts";
import * as queries from "./queries.ts";

const EVENTS = "events";
const LOCK = "connectstorm:events-upkeep";
const DAY_MS = 86_400_000;

/**
 * Keeps the chunks of the events: makes the coming ones, and drops those that are wholly older than the retention. What is
 * remembered of event ids and batches goes with the same retention, by when they were recorded; figures have one of their own.
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
      if (retentionDays !== undefined) await dropEvents(series, before(retentionDays));
      if (rollupRetentionDays !== undefined) await dropFigures(dayOf(quarterOf(before(rollupRetentionDays).getTime())));
    });
  }

  async function dropEvents(series: TimeSeries, until: Date): Promise<void> {
    const events = await series.dropBefore(EVENTS, until, async () => {});
    const forgotten = (await forget("event_ids", until)) + (await forget("event_batches", until));
    if (events + forgotten > 0) log.info({ events, forgotten, before: until }, "events past their retention were dropped");
  }

  async function forget(table: "event_ids" | "event_batches", until: Date): Promise<number> {
    for (let forgotten = 0; ;) {
      stopping.throwIfAborted();
      const { rows, isAll } = await queries.deleteMemory(db, table, until);
      forgotten += rows;
      if (isAll) return forgotten;
    }
  }

  async function dropFigures(day: string): Promise<void> {
    let rows = 0;
    for (const siteId of await queries.selectSitesBefore(db, day)) {
      stopping.throwIfAborted();
      rows += await queries.deleteFigures(db, siteId, day);
    }
    if (rows > 0) log.info({ rows, day }, "figures of events past their retention were dropped");
  }

  function before(days: number): Date {
    return new Date(clock.now().getTime() - days * DAY_MS);
  }

  return { runOnce };
}
