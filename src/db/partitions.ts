import type { Database, Db } from "./pool.ts";
import type { TimeSeries } from "./time-series.ts";

const DAY_MS = 86_400_000;
const PERIOD_MS = 7 * DAY_MS; // as long as a chunk of the hypertable twin; both count from 1970-01-01
const PERIODS_AHEAD = 4;
const MOST_ROWS = 20_000; // of one statement, which has its time

/**
 * The native twin of a hypertable: one partition a week, made ahead of time, and a default partition so that a row
 * is never refused for its time.
 */
export function createNativePartitions(db: Database): TimeSeries {
  return {
    kind: "native",

    async prepare(table, now) {
      const first = Math.floor(now.getTime() / PERIOD_MS);
      await db.transaction(async (tx) => {
        await tx.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [`connectstorm:partitions:${table}`]);
        for (let period = first - 1; period <= first + PERIODS_AHEAD; period++) {
          await createPartition(tx, table, new Date(period * PERIOD_MS), new Date((period + 1) * PERIOD_MS));
        }
      });
    },

    async dropBefore(table, before, beforeDrop) {
      const expired = (await listPartitions(db, table)).filter(({ endsAt }) => endsAt <= before);
      return db.transaction(async (tx) => {
        // What came for a week that had no partition, or has none any more.
        let rows = await deleteFromDefault(tx, table, before);
        for (const { name } of expired) {
          const counted = await tx.query<{ count: number }>(`select count(*) from ${name}`);
          rows += counted.rows[0]!.count;
        }
        await beforeDrop(tx, rows);
        for (const { name } of expired) await tx.query(`drop table ${name}`);
        return rows;
      });
    },
  };
}

/** Rows of that week which already lie in the default partition are moved, so that making it late works too. */
async function createPartition(tx: Db, table: string, opensAt: Date, endsAt: Date): Promise<void> {
  const name = `${table}_${opensAt.toISOString().slice(0, 10).replaceAll("-", "")}`;
  const { rows } = await tx.query<{ found: string | null }>("select to_regclass($1)::text as found", [name]);
  if (rows[0]?.found) return;
  await tx.query(`create table ${name} (like ${table} including defaults including constraints)`);
  const column = await timeColumn(tx, table);
  await tx.query(
    `with moved as (delete from ${table}_default where ${column} >= $1 and ${column} < $2 returning *)
     insert into ${name} select * from moved`, [opensAt, endsAt]);
  // Utility statements take no parameters; both instants are ours and hold nothing but digits and punctuation.
  await tx.query(`alter table ${table} attach partition ${name}
    for values from ('${opensAt.toISOString()}') to ('${endsAt.toISOString()}')`);
}

async function deleteFromDefault(tx: Db, table: string, before: Date): Promise<number> {
  const column = await timeColumn(tx, table);
  for (let rows = 0; ;) {
    const { rowCount } = await tx.query(
      `delete from ${table}_default where ctid = any(array(select ctid from ${table}_default where ${column} < $1 limit ${MOST_ROWS}))`, [before]);
    rows += rowCount;
    if (rowCount < MOST_ROWS) return rows;
  }
}

/** By which the table is partitioned, quoted where it has to be. */
async function timeColumn(tx: Db, table: string): Promise<string> {
  const { rows } = await tx.query<{ column: string }>(
    `select quote_ident(attname) as column from pg_partitioned_table join pg_attribute on attrelid = partrelid and attnum = partattrs[0]
     where partrelid = $1::regclass`, [table]);
  return rows[0]!.column;
}

/** Partitions but the default one, with the end of their range. */
async function listPartitions(db: Db, table: string): Promise<{ name: string; endsAt: Date }[]> {
  const { rows } = await db.query<{ name: string; ends: string | null }>(
    `select inhrelid::regclass::text as name, substring(pg_get_expr(c.relpartbound, c.oid) from $2) as ends
     from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = $1::regclass`,
    [table, "TO \\('([^']+)'\\)"]);
  return rows.flatMap(({ name, ends }) => (ends === null ? [] : [{ name, endsAt: new Date(ends) }]));
}
