import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { TimeSeries } from "../db/time-series.ts";
import * as queries from "./queries.ts";

const LEDGER = "file_events";
const DAY_MS = 86_400_000;

/** Keeps the ledger's chunks: makes the coming ones, and drops those that are wholly older than the retention, if there is one. */
export function createLedgerUpkeep({ timeSeries, retentionDays, clock, log }: {
  timeSeries: () => Promise<TimeSeries>;
  retentionDays: number | undefined;
  clock: Clock;
  log: Log;
}) {
  /** @returns how many ledger rows were dropped */
  async function runOnce(): Promise<number> {
    const series = await timeSeries();
    await series.prepare(LEDGER, clock.now());
    if (retentionDays === undefined) return 0;
    const before = new Date(clock.now().getTime() - retentionDays * DAY_MS);
    const records = await series.dropBefore(LEDGER, before, queries.subtractFromTotals);
    if (records > 0) log.info({ records, before }, "ledger rows past their retention were dropped");
    return records;
  }

  return { runOnce };
}
