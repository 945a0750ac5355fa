import pg from "pg";

/** What the bench asks of the database of ConnectStorm, on a connection of its own. */
export async function openLedger(uri: string) {
  const client = new pg.Client({ connectionString: uri, application_name: "connectstorm-bench" });
  client.on("error", () => {}); // the next query says so
  await client.connect();

  async function one<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row> {
    const { rows } = await client.query<Row>(text, values);
    const row = rows[0];
    if (row === undefined) throw new Error(`no row: ${text}`);
    return row;
  }

  /** By the totals row: cheap enough to be asked fifty times a second. */
  async function records(): Promise<number> {
    return Number((await one<{ records: string }>("select records from ledger_totals")).records);
  }

  /** By counting: the rows there are, and the files they speak of. */
  async function countExactly(): Promise<{ rows: number; files: number }> {
    const found = await one<{ rows: string; files: string }>(
      "select count(*) as rows, count(distinct file_id) as files from file_events");
    return { rows: Number(found.rows), files: Number(found.files) };
  }

  /** Undefined: not in the ledger yet. */
  async function eventTimeOf(fileId: string): Promise<Date | undefined> {
    const { rows } = await client.query<{ event_time: Date }>(
      "select event_time from file_events where file_id = $1 and event_time > now() - interval '5 minutes'", [fileId]);
    return rows[0]?.event_time;
  }

  /** The ledger's own view of how long each upload took from event_time to settled_at, in milliseconds, sorted. */
  async function settleMs(acceptedSince: Date): Promise<number[]> {
    const { rows } = await client.query<{ ms: number }>(
      `select extract(epoch from settled_at - event_time)::double precision * 1000 as ms from file_events
       where event_time >= $1 order by ms`, [acceptedSince]);
    return rows.map((row) => row.ms);
  }

  /** Adds rows such as a month of uploads leaves, and the total that the code would have kept with them. */
  async function fill(rows: number, onProgress: (done: number) => void): Promise<void> {
    const step = 500_000;
    for (let done = 0; done < rows; done += step) {
      await client.query(
        `insert into file_events (event_time, file_id, event, file_name, size_bytes, sha256, content_type, uploader_id,
           owner_id, stream_id, storage_key, worker, settled_at, settle_ms)
         select t, gen_random_uuid(), 'stored', 'measurement-' || n || '.csv', 1024, sha256(n::text::bytea), 'text/csv',
           'device-' || n % 1000, '00000000-0000-8000-8000-000000000000',
           (extract(epoch from t) * 1000)::bigint || '-0', 'sha256/' || encode(sha256(n::text::bytea), 'hex'), 'bench',
           t + interval '12 milliseconds', 12
         from (select n, now() - interval '30 days' * (n::double precision / $3) as t
               from generate_series($1::bigint, $2::bigint) as n) as spread`,
        [done + 1, Math.min(done + step, rows), rows]);
      onProgress(Math.min(done + step, rows));
    }
    await client.query("update ledger_totals set records = records + $1, size_bytes = size_bytes + $1 * 1024", [rows]);
    await client.query("vacuum analyze file_events");
  }

  return { client, records, countExactly, eventTimeOf, settleMs, fill, close: () => client.end() };
}
export type Ledger = Awaited<ReturnType<typeof openLedger>>;
