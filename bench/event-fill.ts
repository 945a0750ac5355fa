import type pg from "pg";

/** Events of many days as several sites would have sent them, written by sets of rows, and the figures that the worker would have kept. */

export const DAYS = 30;
/** Shares of all events; the largest comes first. */
const SITES = [0.6, 0.2, 0.1, 0.06, 0.04] as const;
const PATHS = 5_000;
const USERS = 100_000;

export interface Filled {
  /** "2026-11-21", UTC, the last of them yesterday. */
  days: string[];
  sites: string[];
}

export async function fillEvents(client: pg.Client, rows: number, onProgress: (done: number) => void): Promise<Filled> {
  const { rows: days } = await client.query<{ day: string }>(
    `select to_char(day, 'YYYY-MM-DD') as day
     from generate_series((now() at time zone 'UTC')::date - $1::int, (now() at time zone 'UTC')::date - 1, interval '1 day') as day`, [DAYS]);
  await client.query("set timezone to 'UTC'"); // days and quarters below are UTC's
  await client.query("select setseed(0.5)");
  for (const [index, { day }] of days.entries()) {
    const done = Math.round((rows * index) / DAYS);
    const until = Math.round((rows * (index + 1)) / DAYS);
    await client.query("begin");
    await insertDay(client, day, until - done);
    await addFigures(client, day);
    await client.query("commit");
    if ((index + 1) % 5 === 0) onProgress(until);
  }
  await client.query("vacuum analyze");
  return { days: days.map(({ day }) => day), sites: SITES.map((_, index) => siteOf(index)) };
}

/** Paths by Zipf's law, users and times evenly. */
async function insertDay(client: pg.Client, day: string, rows: number): Promise<void> {
  let below = 0;
  const sites = SITES.map((share, index) => `when site < ${(below += share).toFixed(2)} then '${siteOf(index)}'`).join(" ");
  await client.query(
    `insert into events (site_id, event_type, path, user_id, timestamp)
     select case ${sites} else '${siteOf(0)}' end,
            case when type < 0.9 then 'pageview' when type < 0.96 then 'click' when type < 0.99 then 'signup' else 'purchase' end,
            '/articles/' || floor(power(${PATHS + 1}, path))::int,
            'user-' || floor(${USERS} * who)::int,
            $1::timestamptz + (n - 1) * interval '1 day' / $2
     from (select n, random() as site, random() as type, random() as path, random() as who from generate_series(1, $2::int) as n) as drawn`,
    [day, rows]);
}

async function addFigures(client: pg.Client, day: string): Promise<void> {
  const ofDay = "timestamp >= $1::timestamptz and timestamp < $1::timestamptz + interval '1 day'";
  const quarter = "date_bin('15 minutes', timestamp, timestamptz '2000-01-01')";
  const key = (column: string): string => `key_of(${column})`;
  const figures = [
    `insert into event_quarters (site_id, begins_at, event_type, events)
     select site_id, ${quarter}, event_type, count(*) from events where ${ofDay} group by 1, 2, 3 order by 1, 2, 3`,
    `insert into event_paths (site_id, begins_at, path_key, path, views)
     select site_id, begins_at, ${key("path")}, path, views
     from (select site_id, ${quarter} as begins_at, path, count(*) as views from events
           where ${ofDay} and event_type = 'pageview' group by 1, 2, 3) as counted order by 1, 2, 3`,
    `insert into event_path_days (site_id, day, path_key, path, views)
     select site_id, $1::timestamptz::date, path_key, path, sum(views) from event_paths
     where begins_at >= $1::timestamptz and begins_at < $1::timestamptz + interval '1 day' group by 1, 2, 3, 4 order by 1, 2, 3`,
    `insert into event_user_days (site_id, day, user_key, quarters)
     select site_id, $1::timestamptz::date, ${key("user_id")}, quarters
     from (select site_id, user_id, bit_or(set_bit(0::bit(96), (extract(epoch from timestamp - $1::timestamptz) / 900)::int, 1)) as quarters
           from (select site_id, user_id, ${quarter} as timestamp from events where ${ofDay}) as at group by 1, 2) as marked order by 1, 2, 3`,
    `insert into event_days (site_id, day, users)
     select site_id, day, count(*) from event_user_days where day = $1::timestamptz::date group by 1, 2`,
  ];
  for (const text of figures) await client.query(text, [day]);
}

function siteOf(index: number): string {
  return `site-${index + 1}`;
}

export interface DayFigures {
  total_views: number;
  unique_users: number;
  top_paths: { path: string; views: number }[];
}

/** By counting the events themselves: what /stats has to answer. */
export async function recountDay(client: pg.Client, site: string, day: string, zone: string): Promise<DayFigures> {
  const { rows } = await client.query<DayFigures>(
    `with found as materialized (
       select event_type, path, user_id from events
       where site_id = $1 and timestamp >= $2::date::timestamp at time zone $3 and timestamp < ($2::date + 1)::timestamp at time zone $3
     )
     select (select count(*)::int from found where event_type = 'pageview') as total_views,
            (select count(distinct user_id)::int from found) as unique_users,
            (select coalesce(json_agg(top), '[]') from (
               select path, count(*) as views from found where event_type = 'pageview'
               group by path order by views desc, path limit 10) as top) as top_paths`, [site, day, zone]);
  const [counted] = rows;
  if (counted === undefined) throw new Error("no row");
  return counted;
}
