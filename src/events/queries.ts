import type { CopyDb, Db } from "../db/pool.ts";
import type { Event } from "./messages.ts";
import { beginOf } from "./quarters.ts";
import type { QuarterFigures } from "./rollup.ts";

/** A name for this run of the server and this database: a restart, a failover and a restored database have another one. */
export async function selectServer(tx: Db): Promise<string> {
  const { rows } = await tx.query<{ server: string }>(
    `select concat(pg_postmaster_start_time(), inet_server_addr(), oid) as server from pg_database where datname = current_database()`);
  return rows[0]!.server;
}

// All of these lock rows in the order of their keys, so that two workers never wait for each other.

/** @returns those of the ids under which nothing was recorded yet; from now on there is */
export async function insertBatches(tx: Db, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await tx.query<{ batch_id: string }>(
    `insert into event_batches (batch_id) select id from unnest($1::uuid[]) as id order by id
     on conflict (batch_id) do nothing returning batch_id`, [ids]);
  return new Set(rows.map((row) => row.batch_id));
}

/** Ids that events of a site came with, and where each of these events stands; the ids differ from each other. */
export interface SentIds {
  site_id: string;
  ids: string[];
  places: number[];
}

/** @returns the places of those that no event had yet; from now on one has */
export async function insertEventIds(tx: Db, sent: readonly SentIds[]): Promise<Set<number>> {
  const { rows } = await tx.query<{ place: number }>(
    `with sent as materialized (
       select place::int, key_of(length(site_id) || ':' || site_id || event_id) as event_key
       from json_to_recordset($1::json) as r(site_id text, ids json, places json),
            rows from (json_array_elements_text(ids), json_array_elements_text(places)) as sent(event_id, place)
     ), fresh as (
       insert into event_ids (event_key) select event_key from sent order by event_key
       on conflict (event_key) do nothing returning event_key
     )
     select place from sent join fresh using (event_key)`, [JSON.stringify(sent)]);
  return new Set(rows.map((row) => row.place));
}

export function copyEvents(tx: CopyDb, events: readonly Event[]): Promise<number> {
  return tx.copy("events (site_id, event_type, path, user_id, timestamp, event_id)",
    events.map(([siteId, eventType, path, userId, at, eventId]) => [siteId, eventType, path, userId, new Date(at).toISOString(), eventId]));
}

export async function addQuarters(tx: Db, figures: readonly QuarterFigures[]): Promise<void> {
  const rows = figures.flatMap(({ siteId, quarter, types }) =>
    [...types].map(([event_type, events]) => ({ site_id: siteId, begins_at: beginOf(quarter), event_type, events })));
  await tx.query(
    `insert into event_quarters (site_id, begins_at, event_type, events)
     select site_id, begins_at, event_type, events
     from json_to_recordset($1::json) as r(site_id text, begins_at timestamptz, event_type text, events bigint)
     order by site_id, begins_at, event_type
     on conflict (site_id, begins_at, event_type) do update set events = event_quarters.events + excluded.events`, [JSON.stringify(rows)]);
}

/**
 * Page views by path, of the quarter and of the day. A quarter's paths come in two lists: as an object each, PostgreSQL needs
 * three times as long to read them.
 */
export async function addPaths(tx: Db, figures: readonly QuarterFigures[]): Promise<void> {
  const groups = figures.filter(({ paths }) => paths.size > 0).map(({ siteId, quarter, paths }) => (
    { site_id: siteId, begins_at: beginOf(quarter), paths: [...paths.keys()], views: [...paths.values()] }));
  if (groups.length === 0) return;
  await tx.query(
    `with incoming as materialized (
       select site_id, begins_at, key_of(path) as path_key, path, viewed.views::bigint as views
       from json_to_recordset($1::json) as r(site_id text, begins_at timestamptz, paths json, views json),
            rows from (json_array_elements_text(paths), json_array_elements_text(r.views)) as viewed(path, views)
     ), by_day as (
       insert into event_path_days (site_id, day, path_key, path, views)
       select site_id, (begins_at at time zone 'UTC')::date as day, path_key, min(path), sum(views) from incoming
       group by site_id, day, path_key order by site_id, day, path_key
       on conflict (site_id, day, path_key) do update set views = event_path_days.views + excluded.views
     )
     insert into event_paths (site_id, begins_at, path_key, path, views)
     select site_id, begins_at, path_key, path, views from incoming order by site_id, begins_at, path_key
     on conflict (site_id, begins_at, path_key) do update set views = event_paths.views + excluded.views`, [JSON.stringify(groups)]);
}

/** Users of a site's day who did something in the same quarters of it. */
export interface ActiveUsers {
  siteId: string;
  day: string;
  /** As bitsOf has them. */
  quarters: string;
  users: string[];
}

/** No user twice on a day. A row that was updated has an xmax, as it was locked first; one that was inserted has none. */
export async function addUsers(tx: Db, active: readonly ActiveUsers[]): Promise<void> {
  if (active.length === 0) return;
  await tx.query(
    `with written as (
       insert into event_user_days as known (site_id, day, user_key, quarters)
       select site_id, day, key_of(user_id) as user_key, quarters::bit(96)
       from json_to_recordset($1::json) as r(site_id text, day date, quarters text, users json), json_array_elements_text(users) as user_id
       order by site_id, day, user_key
       on conflict (site_id, day, user_key) do update set quarters = known.quarters | excluded.quarters
         where known.quarters | excluded.quarters <> known.quarters
       returning site_id, day, xmax = 0 as is_new
     )
     insert into event_days (site_id, day, users)
     select site_id, day, count(*) from written where is_new group by site_id, day order by site_id, day
     on conflict (site_id, day) do update set users = event_days.users + excluded.users`,
    [JSON.stringify(active.map(({ siteId, ...rest }) => ({ site_id: siteId, ...rest })))]);
}

/** What was put off to the COMMIT, such as a deferred foreign key, is held against it now. */
export async function checkDeferred(tx: Db): Promise<void> {
  await tx.query("set constraints all immediate");
}

export interface DeadBatch {
  batch_id: string;
  stream_id: string | null;
  reason: string;
  message: string;
  events: number | null;
}

/** Each once, though its worker may die before the acknowledgement. Text that PostgreSQL does not take has its place taken by a mark. */
export async function insertDeadLetters(db: Db, dead: readonly DeadBatch[]): Promise<void> {
  const plain = (value: unknown) => (typeof value === "string" ? value.replaceAll("\0", "\ufffd").toWellFormed() : value);
  await db.query(
    `insert into event_dead_letters (batch_id, stream_id, reason, message, events)
     select batch_id, stream_id, reason, message, events
     from json_to_recordset($1::json) as r(batch_id text, stream_id text, reason text, message text, events int)
     where not exists (select from event_dead_letters as given_up
                       where given_up.batch_id = r.batch_id and given_up.stream_id is not distinct from r.stream_id)`,
    [JSON.stringify(dead, (_key, value: unknown) => plain(value))]);
}

const MOST_ROWS = 20_000; // of one statement: a tenth of a second or two

/** What the dedup remembers of before `before`, a part of it. @returns how many rows went, and whether that was all */
export function deleteMemory(db: Db, table: "event_batches" | "event_ids", before: Date): Promise<Deleted> {
  return deleteSome(db, table, "recorded_at < $1", [before]);
}

/** Sites in order of their names, behind `after`, by jumping from one to the next along the primary key. */
export async function selectNextSite(db: Db, after: string): Promise<string | undefined> {
  const { rows } = await db.query<{ site_id: string }>("select site_id from event_quarters where site_id > $1 order by site_id limit 1", [after]);
  return rows[0]?.site_id;
}

/** In the order in which they go with the retention: a day of paths before its quarters, as figures take these away from it. */
const FIGURES = { event_path_days: "day", event_user_days: "day", event_days: "day", event_paths: "begins_at", event_quarters: "begins_at" } as const;
export const FIGURE_TABLES = Object.keys(FIGURES) as (keyof typeof FIGURES)[];

/** Figures of a site's days before `day`, UTC, a part of them. */
export function deleteFigures(db: Db, table: keyof typeof FIGURES, siteId: string, day: string): Promise<Deleted> {
  const before = FIGURES[table] === "day" ? "$2::date" : "day_begin($2::date, 'UTC')";
  return deleteSome(db, table, `site_id = $1 and ${FIGURES[table]} < ${before}`, [siteId, day]);
}

export interface Deleted {
  rows: number;
  isAll: boolean;
}

async function deleteSome(db: Db, table: string, where: string, values: unknown[]): Promise<Deleted> {
  const { rowCount } = await db.query(
    `delete from ${table} where ctid = any(array(select ctid from ${table} where ${where} limit ${MOST_ROWS}))`, values);
  return { rows: rowCount, isAll: rowCount < MOST_ROWS };
}
