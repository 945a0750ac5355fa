import type { Db } from "../../db/pool.ts";
import { PAGEVIEW } from "../messages.ts";
import { daysAndEdges, endsOf } from "../quarters.ts";

// All of these read the figures only, never the events; but for selectLatest.

export interface PathViews {
  path: string;
  views: number;
}

export interface Figures {
  totalViews: number;
  /** Null: more than could be counted in a moment. */
  uniqueUsers: number | null;
  topPaths: PathViews[];
}

/** One day of UTC: three reads along primary keys. */
export async function selectDay(db: Db, siteId: string, day: string, mostPaths: number): Promise<Figures> {
  const { rows } = await db.query<Figures>(
    `select (select coalesce(sum(events), 0)::bigint from event_quarters where site_id = $1 and event_type = '${PAGEVIEW}'
               and begins_at >= $2::date::timestamp at time zone 'UTC' and begins_at < ($2::date + 1)::timestamp at time zone 'UTC') as "totalViews",
            (select coalesce(sum(users), 0)::bigint from event_days where site_id = $1 and day = $2::date) as "uniqueUsers",
            (select coalesce(json_agg(top), '[]') from (
               select path, views from event_path_days where site_id = $1 and day = $2::date order by views desc, path limit $3) as top) as "topPaths"`,
    [siteId, day, mostPaths]);
  return rows[0]!;
}

/** When the days of a zone, both of them in it, begin and end. @throws pg's DatabaseError 22023 when the database does not know the zone */
export async function selectBounds(db: Db, from: string, to: string, zone: string): Promise<{ beginsAt: Date; endsAt: Date }> {
  const { rows } = await db.query<{ beginsAt: Date; endsAt: Date }>(
    `select day_begin($1::date, $3) as "beginsAt", day_begin($2::date + 1, $3) as "endsAt"`, [from, to, zone]);
  return rows[0]!;
}

/**
 * Of whole quarters, of however many days. The days of users are said twice, and the edges one by one: so PostgreSQL knows how
 * few rows it will be, and finds them in the index. From a list of them it expected a hundred, and read the whole table.
 * An edge is taken away from a day's row, and where that is gone already with the retention (it goes first), from nothing.
 * @param mostUserDays  with more users over these days, each day's added up, they are not counted; null: however many
 */
export async function selectBetween(
  db: Db, siteId: string, { beginsAt, endsAt }: { beginsAt: Date; endsAt: Date }, mostPaths: number, mostUserDays: number | null,
): Promise<Figures> {
  const { first, last } = endsOf(beginsAt, endsAt);
  const { from, until, edges: [before, behind] } = daysAndEdges(beginsAt, endsAt);
  const isInDay = (sign: string, day: string) => `(${sign}::int = 1
                   or exists (select from event_path_days as whole where whole.site_id = $1 and whole.day = ${day}::date and whole.path_key = event_paths.path_key))`;
  const { rows } = await db.query<Figures>(
    `select (select coalesce(sum(events), 0)::bigint from event_quarters
               where site_id = $1 and event_type = '${PAGEVIEW}' and begins_at >= $2 and begins_at < $3) as "totalViews",
            case when $19::bigint is null
                   or (select coalesce(sum(users), 0) from event_days where site_id = $1 and day between $4::date and $6::date) <= $19::bigint
              then (select count(distinct user_key) from event_user_days
                      where site_id = $1 and day between $4::date and $6::date
                        and (day > $4::date and day < $6::date
                             or day = $4::date and quarters & $5::bit(96) <> 0::bit(96)
                             or day = $6::date and quarters & $7::bit(96) <> 0::bit(96))) end as "uniqueUsers",
            (select coalesce(json_agg(top), '[]') from (
               select min(path) as path, sum(views)::bigint as views from (
                 select path_key, path, views from event_path_days where site_id = $1 and day >= $8::date and day < $9::date
                 union all
                 select path_key, path, $12::int * views from event_paths where site_id = $1 and begins_at >= $10 and begins_at < $11 and ${isInDay("$12", "$13")}
                 union all
                 select path_key, path, $16::int * views from event_paths where site_id = $1 and begins_at >= $14 and begins_at < $15 and ${isInDay("$16", "$17")}) as counted
               group by path_key having sum(views) > 0 order by views desc, path limit $18) as top) as "topPaths"`,
    [siteId, beginsAt, endsAt, first.day, first.quarters, last.day, last.quarters, from, until,
      before.beginsAt, before.endsAt, before.sign, before.day, behind.beginsAt, behind.endsAt, behind.sign, behind.day, mostPaths, mostUserDays]);
  return rows[0]!;
}

export interface TypeCount {
  eventType: string;
  events: number;
}

/** The most frequent ones, and how many events there are of all types together. */
export async function selectTypes(db: Db, siteId: string, from: string, to: string, zone: string, mostTypes: number): Promise<{ events: number; types: TypeCount[] }> {
  const { rows } = await db.query<{ events: number; types: TypeCount[] }>(
    `with counted as materialized (
       select event_type as "eventType", sum(events)::bigint as events from event_quarters
       where site_id = $1 and begins_at >= day_begin($2::date, $4) and begins_at < day_begin($3::date + 1, $4) group by event_type
     )
     select (select coalesce(sum(events), 0)::bigint from counted) as events,
            (select coalesce(json_agg(top), '[]') from (select * from counted order by events desc, "eventType" limit $5) as top) as types`,
    [siteId, from, to, zone, mostTypes]);
  return rows[0]!;
}

export interface Point {
  /** Local. */
  day: string;
  beginsAt: Date;
  events: number;
}

/**
 * Every hour or day of those days, in which nothing happened as well, by its place among them. An hour is 3,600 s from the
 * first day's beginning on, whatever the clocks do.
 */
export async function selectSeries(
  db: Db, siteId: string, eventType: string, from: string, to: string, zone: string, interval: "hour" | "day",
): Promise<Point[]> {
  const [spans, place] = interval === "hour"
    ? [`select begins_at, (begins_at at time zone $5)::date as day, (extract(epoch from begins_at - opens_at) / 3600)::int as place
        from bounds, generate_series(opens_at, closes_at - interval '1 second', interval '1 hour') as begins_at`,
      "floor(extract(epoch from begins_at - opens_at) / 3600)::int"]
    : [`select day_begin(day::date, $5) as begins_at, day::date as day, day::date - $3::date as place
        from generate_series($3::date::timestamp, $4::date::timestamp, interval '1 day') as day`,
      "(begins_at at time zone $5)::date - $3::date"];
  const { rows } = await db.query<Point>(
    `with bounds as materialized (
       select day_begin($3::date, $5) as opens_at, day_begin($4::date + 1, $5) as closes_at
     ), found as materialized (
       select ${place} as place, sum(events)::bigint as events from event_quarters, bounds
       where site_id = $1 and event_type = $2 and begins_at >= opens_at and begins_at < closes_at group by 1
     )
     select to_char(day, 'YYYY-MM-DD') as day, begins_at as "beginsAt", coalesce(events, 0) as events
     from (${spans}) as spans left join found using (place) order by place`,
    [siteId, eventType, from, to, zone]);
  return rows;
}

/** Sites in order of their names, by jumping from one to the next along the primary key. */
export async function selectSites(db: Db, most: number): Promise<string[]> {
  const { rows } = await db.query<{ site_id: string }>(
    `with recursive sites as (
       (select site_id from event_quarters order by site_id limit 1)
       union all
       select (select event_quarters.site_id from event_quarters where event_quarters.site_id > sites.site_id order by event_quarters.site_id limit 1)
       from sites where sites.site_id is not null
     )
     select site_id from sites where site_id is not null limit $1`, [most]);
  return rows.map((row) => row.site_id);
}

export interface LatestEvent {
  id: number;
  eventType: string;
  path: string | null;
  userId: string | null;
  timestamp: Date;
}

/**
 * By when they happened, the last first. Each row of the figures has one event or more: the newest of as many rows say from when
 * on to look, and the chunks before it, of which late events may have made hundreds, are not even planned for.
 * @param oldest  where figures have a retention: back to then their events may still be there, when they are gone
 */
export async function selectLatest(db: Db, siteId: string, most: number, oldest?: Date): Promise<LatestEvent[]> {
  const newest = await db.query<{ count: number; since: Date | null }>(
    "select count(*), min(begins_at) as since from (select begins_at from event_quarters where site_id = $1 order by begins_at desc limit $2) as newest", [siteId, most]);
  const { count, since } = newest.rows[0]!;
  const from = oldest && count < most && (since === null || oldest < since) ? oldest : since;
  if (from === null) return [];
  const { rows } = await db.query<LatestEvent>(
    `select id, event_type as "eventType", path, user_id as "userId", timestamp from events
     where site_id = $1 and timestamp >= $3 order by timestamp desc, id desc limit $2`, [siteId, most, from]);
  return rows;
}

export async function countDeadLetters(db: Db): Promise<{ batches: number; events: number }> {
  const { rows } = await db.query<{ batches: number; events: number }>(
    "select count(*) as batches, coalesce(sum(events), 0)::bigint as events from event_dead_letters");
  return rows[0]!;
}
