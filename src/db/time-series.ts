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
 * Decides the kind for a database that is about to be migrated. One that has a ledger keeps its kind. Not within a
 * transaction: where the extension is installed but not preloaded, the server ends the session that asks for it.
 * @returns `reason` when TimescaleDB was asked for by "auto" and cannot be had
 * @throws Error when a kind is demanded and cannot be had; Unavailable
 */
export async function chooseTimeSeries(db: Db, wanted: TimeSeriesKind | "auto"): Promise<{ kind: TimeSeriesKind; reason?: string }> {
  const { rows } = await db.query<{ ledger: string | null }>("select to_regclass('file_events')::text as ledger");
  if (rows[0]?.ledger) {
    const kind = await detectTimeSeries(db);
    if (wanted === "auto" || wanted === kind) return { kind };
    throw new Error(`TIME_SERIES=${wanted}, but the ledger of this database is ${kind}, and a ledger keeps its kind.`);
  }
  if (wanted === "native") return { kind: "native" };
  try {
    await db.query("create extension if not exists timescaledb");
    return { kind: "timescale" };
  } catch (error) {
    // Also when somebody else created it in this moment.
    const { rows: found } = await db.query("select extname from pg_extension where extname = 'timescaledb'");
    if (found.length > 0) return { kind: "timescale" };
    const reason = error instanceof Error ? error.message : String(error);
    if (wanted === "timescale") throw new Error(`TIME_SERIES=timescale, but the extension cannot be used: ${reason}`, { cause: error });
    return { kind: "native", reason };
  }
}
