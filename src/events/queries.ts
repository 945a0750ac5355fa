import type { CopyDb, Db } from "../db/pool.ts";
import type { Event } from "./messages.ts";
import type { Rollup, UserDay } from "./rollup.ts";

// All of these lock rows in the order of their keys, so that two workers never wait for each other.

/** @returns those of the ids under which nothing was recorded yet; from now on there is */
export async function insertBatches(tx: Db, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await tx.query<{ batch_id: string }>(
    `insert into event_batches (batch_id) select id from unnest($1::uuid[]) as id order by id
     on conflict (batch_id) do nothing returning batch_id`, [ids]);
  return new Set(rows.map((row) => row.batch_id));
}

export interface SentId {
  site_id: string;
  event_id: string;
  /** Comes back where the id is new. */
  at: number;
}

/** @returns `at` of those that no event had yet; from now on one has. The ids differ from each other. */
export async function insertEventIds(tx: Db, sent: readonly SentId[]): Promise<Set<number>> {
  const { rows } = await tx.query<{ at: number }>(
    `with sent as materialized (
       select at, substr(sha256(convert_to(site_id, 'UTF8') || '\\x00'::bytea || convert_to(event_id, 'UTF8')), 1, 16) as event_key
       from json_to_recordset($1::json) as r(site_id text, event_id text, at int)
     ), fresh as (
       insert into event_ids (event_key) select event_key from sent order by event_key
       on conflict (event_key) do nothing returning event_key
     )
     select at from sent join fresh using (event_key)`, [JSON.stringify(sent)]);
  return new Set(rows.map((row) => row.at));
}

export function copyEvents(tx: CopyDb, events: readonly Event[]): Promise<number> {
  return tx.copy("events (site_id, event_type, path, user_id, timestamp, event_id)",
    events.map(([siteId, eventType, path, userId, at, eventId]) => [siteId, eventType, path, userId, new Date(at).toISOString(), eventId]));
}

export async function addQuarters(tx: Db, quarters: Rollup["quarters"]): Promise<void> {
  await tx.query(
    `insert into event_quarters (site_id, begins_at, event_type, events)
     select site_id, begins_at, event_type, events
     from json_to_recordset($1::json) as r(site_id text, begins_at timestamptz, event_type text, events bigint)
     order by site_id, begins_at, event_type
     on conflict (site_id, begins_at, event_type) do update set events = event_quarters.events + excluded.events`, [JSON.stringify(quarters)]);
}

export async function addPaths(tx: Db, paths: Rollup["paths"]): Promise<void> {
  await tx.query(
    `insert into event_paths (site_id, begins_at, path_key, path, views)
     select site_id, begins_at, substr(sha256(convert_to(path, 'UTF8')), 1, 16) as path_key, path, views
     from json_to_recordset($1::json) as r(site_id text, begins_at timestamptz, path text, views bigint)
     order by site_id, begins_at, path_key
     on conflict (site_id, begins_at, path_key) do update set views = event_paths.views + excluded.views`, [JSON.stringify(paths)]);
}

export async function addPathDays(tx: Db, pathDays: Rollup["pathDays"]): Promise<void> {
  await tx.query(
    `insert into event_path_days (site_id, day, path_key, path, views)
     select site_id, day, substr(sha256(convert_to(path, 'UTF8')), 1, 16) as path_key, path, views
     from json_to_recordset($1::json) as r(site_id text, day date, path text, views bigint)
     order by site_id, day, path_key
     on conflict (site_id, day, path_key) do update set views = event_path_days.views + excluded.views`, [JSON.stringify(pathDays)]);
}

/** A row that was updated has an xmax, as it was locked first; one that was inserted has none. */
export async function addUsers(tx: Db, users: readonly UserDay[]): Promise<void> {
  await tx.query(
    `with written as (
       insert into event_user_days as known (site_id, day, user_key, quarters)
       select site_id, day, substr(sha256(convert_to(user_id, 'UTF8')), 1, 16) as user_key, ('x' || quarters)::bit(96)
       from json_to_recordset($1::json) as r(site_id text, day date, user_id text, quarters text)
       order by site_id, day, user_key
       on conflict (site_id, day, user_key) do update set quarters = known.quarters | excluded.quarters
         where known.quarters | excluded.quarters <> known.quarters
       returning site_id, day, xmax = 0 as is_new
     )
     insert into event_days (site_id, day, users)
     select site_id, day, count(*) from written where is_new group by site_id, day order by site_id, day
     on conflict (site_id, day) do update set users = event_days.users + excluded.users`, [JSON.stringify(users)]);
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

const MOST_ROWS = 20_000;

/** What the dedup remembers of before `before`, a part of it. @returns how many rows went; less than the most there may be: all are gone */
export async function deleteMemory(db: Db, table: "event_batches" | "event_ids", before: Date): Promise<{ rows: number; isAll: boolean }> {
  const { rowCount } = await db.query(
    `delete from ${table} where ctid = any(array(select ctid from ${table} where recorded_at < $1 limit ${MOST_ROWS}))`, [before]);
  return { rows: rowCount, isAll: rowCount < MOST_ROWS };
}

/** Every site that has figures of a day before `day`. */
export async function selectSitesBefore(db: Db, day: string): Promise<string[]> {
  const { rows } = await db.query<{ site_id: string }>(
    "select distinct site_id from (select site_id from event_days where day < $1::date union all select site_id from event_quarters where begins_at < $1::date at time zone 'UTC') as old", [day]);
  return rows.map((row) => row.site_id);
}

/** All figures of a site's days before `day`, UTC. @returns how many rows went */
export async function deleteFigures(db: Db, siteId: string, day: string): Promise<number> {
  let rows = 0;
  for (const table of ["event_path_days", "event_user_days", "event_days"]) {
    rows += (await db.query(`delete from ${table} where site_id = $1 and day < $2::date`, [siteId, day])).rowCount;
  }
  for (const table of ["event_quarters", "event_paths"]) {
    rows += (await db.query(`delete from ${table} where site_id = $1 and begins_at < $2::date at time zone 'UTC'`, [siteId, day])).rowCount;
  }
  return rows;
}
