import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import { earlierNow } from "../db/earlier-now.ts";
import type { Database } from "../db/pool.ts";
import type { TimeSeries } from "../db/time-series.ts";
import * as queries from "./queries.ts";

const LEDGER = "file_events";
const LOCK = "connectstorm:ledger-upkeep";
const DAY_MS = 86_400_000;

/** Keeps the ledger's chunks: makes the coming ones, and drops those that are wholly older than the retention, if there is one. */
export function createLedgerUpkeep({ db, timeSeries, retentionDays, clock, log }: {
  db: Database;
  timeSeries: () => Promise<TimeSeries>;
  retentionDays: number | undefined;
  clock: Clock;
  log: Log;
}) {
  /** One process at a time. @returns how many ledger rows were dropped */
  async function runOnce(): Promise<number> {
    return (await db.exclusively(LOCK, tidy)) ?? 0;
  }

  async function tidy(): Promise<number> {
    const series = await timeSeries();
    await series.prepare(LEDGER, clock.now());
    if (retentionDays === undefined) return 0;
    const before = new Date((await earlierNow(db, clock)).getTime() - retentionDays * DAY_MS);
    const records = await series.dropBefore(LEDGER, before, queries.subtractFromTotals);
    if (records > 0) log.info({ records, before }, "ledger rows past their retention were dropped");
    return records;
  }

  return { runOnce };
}
