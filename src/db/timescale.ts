import type { Database, Db } from "./pool.ts";
import type { TimeSeries } from "./time-series.ts";

/** Hypertables of TimescaleDB, with nothing but what its Apache-licensed edition has: chunks and drop_chunks. */
export function createHypertables(db: Database): TimeSeries {
  return {
    kind: "timescale",
    prepare: async () => {}, // chunks are made as rows come

    async dropBefore(table, before, beforeDrop) {
      const chunks = await expiredChunks(db, table, before);
      if (chunks.length === 0) return 0;
      return db.transaction(async (tx) => {
        let rows = 0;
        for (const chunk of chunks) rows += await countRows(tx, chunk);
        await beforeDrop(tx, rows);
        await tx.query("select drop_chunks($1::regclass, older_than => $2::timestamptz)", [table, before]);
        return rows;
      });
    },
  };
}

async function expiredChunks(db: Db, table: string, before: Date): Promise<string[]> {
  const { rows } = await db.query<{ chunk: string }>(
    "select c::text as chunk from show_chunks($1::regclass, older_than => $2::timestamptz) as c", [table, before]);
  return rows.map((row) => row.chunk);
}

/** `chunk` is a name that the database gave, quoted by it. */
async function countRows(tx: Db, chunk: string): Promise<number> {
  const { rows } = await tx.query<{ count: number }>(`select count(*) from ${chunk}`);
  return rows[0]!.count;
}
