import type pg from "pg";

/** How fast the same rows go into the same two tables with nothing around it: one statement a batch, one connection. */

interface Column {
  name: string;
  type: string;
}

interface Copied {
  table: string;
  columns: Column[];
  /** Column by column, as PostgreSQL writes them. */
  values: (string | null)[][];
  rows: number;
}

/** What the worker has written. Read before `measureInserts`, which empties both tables. */
export async function copyLedger(client: pg.Client): Promise<Copied[]> {
  // in one order, so that a batch of files and a batch of ledger rows speak of the same uploads
  return [await copyTable(client, "files", "event_time, id"), await copyTable(client, "file_events", "event_time, file_id")];
}

/** @returns rows of the ledger a second */
export async function measureInserts(client: pg.Client, tables: readonly Copied[], batchRows: number): Promise<number> {
  await client.query(`truncate ${tables.map(({ table }) => table).join(", ")}`);
  const text = insertAll(tables);
  const total = tables[0]?.rows ?? 0;
  const startedAt = performance.now();
  for (let first = 0; first < total; first += batchRows) {
    const values = tables.flatMap((copied) => copied.values.map((column) => column.slice(first, first + batchRows)));
    await client.query({ name: `insert-${batchRows}`, text, values });
  }
  return (total / (performance.now() - startedAt)) * 1000;
}

async function copyTable(client: pg.Client, table: string, order: string): Promise<Copied> {
  const { rows: columns } = await client.query<Column>(
    `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum`, [table]);
  const { rows } = await client.query<(string | null)[]>({
    text: `select ${columns.map(({ name }) => `${name}::text`).join(", ")} from ${table} order by ${order}`,
    rowMode: "array",
  });
  return { table, columns, values: columns.map((_, index) => rows.map((row) => row[index] ?? null)), rows: rows.length };
}

/** One statement for all tables: the limit has one round trip and one commit a batch. */
function insertAll(tables: readonly Copied[]): string {
  let parameter = 0;
  const inserts = tables.map(({ table, columns }) => {
    const arrays = columns.map(({ type }) => `$${++parameter}::${type}[]`).join(", ");
    return `insert into ${table} (${columns.map(({ name }) => name).join(", ")}) select * from unnest(${arrays})`;
  });
  const last = inserts.pop();
  const before = inserts.map((insert, index) => `before${index} as (${insert})`).join(", ");
  return before === "" ? `${last}` : `with ${before} ${last}`;
}
