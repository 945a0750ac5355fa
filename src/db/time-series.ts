import type { Database, Db } from "./pool.ts";
import { createNativePartitions } from "./partitions.ts";
import { createHypertables } from "./timescale.ts";

export type TimeSeriesKind = "timescale" | "native";

/**
 * SEAM. What differs between a hypertable and a natively partitioned table, once the migrations made one of the two.
 * `table` is always a name from our own code, never a client's.
 */
export interface TimeSeries {
  readonly kind: TimeSeriesKind;
  /** Makes sure that rows of the coming weeks have a place. */
  prepare(table: string, now: Date): Promise<void>;
  /**
   * Drops whole chunks that end before `before`. `beforeDrop` runs in the same transaction, with the number of rows that go.
   * @returns how many rows went
   */
  dropBefore(table: string, before: Date, beforeDrop: (tx: Db, rows: number) => Promise<void>): Promise<number>;
}

/** Opens the kind that the migrations made in this database. */
export async function openTimeSeries(db: Database): Promise<TimeSeries> {
  return (await detectTimeSeries(db)) === "timescale" ? createHypertables(db) : createNativePartitions(db);
}

/** Which kind the ledger of this database is. @throws Unavailable when it has not been migrated */
export async function detectTimeSeries(db: Db): Promise<TimeSeriesKind> {
  const { rows } = await db.query<{ relkind: string }>("select relkind from pg_class where oid = 'file_events'::regclass");
  return rows[0]?.relkind === "p" ? "native" : "timescale"; // p: a partitioned table of PostgreSQL's own
}

/**
 * Decides the kind for a database that is about to be migrated. One that has a ledger keeps its kind.
 * @returns `reason` when TimescaleDB was asked for by "auto" and cannot be had
 * @throws Error when "timescale" is demanded and cannot be had
 */
export async function chooseTimeSeries(tx: Db, wanted: TimeSeriesKind | "auto"): Promise<{ kind: TimeSeriesKind; reason?: string }> {
  const { rows } = await tx.query<{ ledger: string | null }>("select to_regclass('file_events')::text as ledger");
  if (rows[0]?.ledger) return { kind: await detectTimeSeries(tx) };
  if (wanted === "native") return { kind: "native" };
  try {
    await tx.query("savepoint extension");
    await tx.query("create extension if not exists timescaledb");
    await tx.query("release savepoint extension");
    return { kind: "timescale" };
  } catch (error) {
    await tx.query("rollback to savepoint extension");
    const reason = error instanceof Error ? error.message : String(error);
    if (wanted === "timescale") throw new Error(`TIME_SERIES=timescale, but the extension cannot be used: ${reason}`, { cause: error });
    return { kind: "native", reason };
  }
}
