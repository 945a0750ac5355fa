import type pg from "pg";

/** Any way to ask the database: a hub's, a world's, or a client of its own. */
export type Sql = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>;

interface Figures {
  table: string;
  key: string;
  figure: string;
  /** The same rows, from the events themselves. */
  counted: string;
}

const QUARTER = "date_bin('15 minutes', timestamp, timestamptz '2000-01-01 00:00:00+00')";
const DAY = "(timestamp at time zone 'UTC')::date";
const OF_DAY = `floor(extract(epoch from (timestamp at time zone 'UTC') - ${DAY}) / 900)::int`;
const keyOf = (column: string) => `encode(substr(sha256(convert_to(${column}, 'UTF8')), 1, 16), 'hex')::uuid`;

const ALL: Figures[] = [
  {
    table: "event_quarters", key: "site_id, begins_at, event_type", figure: "events",
    counted: `select site_id, ${QUARTER} as begins_at, event_type, count(*) as events from events group by 1, 2, 3`,
  },
  {
    table: "event_paths", key: "site_id, begins_at, path, path_key", figure: "views",
    counted: `select site_id, ${QUARTER} as begins_at, path, ${keyOf("path")} as path_key, count(*) as views
              from events where event_type = 'pageview' and path is not null group by 1, 2, 3, 4`,
  },
  {
    table: "event_path_days", key: "site_id, day, path, path_key", figure: "views",
    counted: `select site_id, ${DAY} as day, path, ${keyOf("path")} as path_key, count(*) as views
              from events where event_type = 'pageview' and path is not null group by 1, 2, 3, 4`,
  },
  {
    table: "event_user_days", key: "site_id, day, user_key", figure: "quarters",
    counted: `select site_id, ${DAY} as day, ${keyOf("user_id")} as user_key, bit_or(set_bit(repeat('0', 96)::bit(96), ${OF_DAY}, 1)) as quarters
              from events where user_id is not null group by 1, 2, 3`,
  },
  {
    table: "event_days", key: "site_id, day", figure: "users",
    counted: `select site_id, ${DAY} as day, count(distinct user_id) as users from events where user_id is not null group by 1, 2`,
  },
];

/**
 * Counts the raw events anew, in SQL that shares nothing with the code, and holds all figures against it, to the unit.
 * Where the retention has dropped events, the figures know more than there is to be counted.
 * @returns what differs, in words; and each event that is there twice under its sender's id
 */
export async function recount(sql: Sql): Promise<string[]> {
  const differences: string[] = [];
  for (const { table, key, figure, counted } of ALL) {
    const rows = await sql<{ of: unknown[]; kept: string | null; counted: string | null; all: number }>(
      `with counted as (${counted})
       select json_build_array(${key}) as of, kept.${figure}::text as kept, counted.${figure}::text as counted, count(*) over ()::int as all
       from ${table} as kept full join counted using (${key})
       where kept.${figure} is distinct from counted.${figure} order by ${key} limit 1`);
    for (const row of rows) {
      differences.push(`${table} has ${row.kept ?? "no row"} and a recount ${row.counted ?? "no row"} of ${row.of.join(", ")}; ${row.all} rows differ`);
    }
  }
  const twice = await sql<{ site_id: string; event_id: string; events: number; all: number }>(
    `select site_id, event_id, count(*)::int as events, count(*) over ()::int as all from events where event_id is not null
     group by site_id, event_id having count(*) > 1 order by site_id, event_id limit 1`);
  for (const { site_id, event_id, events, all } of twice) differences.push(`events has ${events} rows of ${site_id}, ${event_id}; so it is with ${all} ids`);
  return differences;
}
