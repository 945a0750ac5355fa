import type { Db } from "../db/pool.ts";
import type { Problem } from "../objects/object-store.ts";

/** A file as it is stored. `sha256` is hexadecimal; instants are UTC. */
export interface FileRow {
  id: string;
  ownerId: string;
  name: string;
  sizeBytes: number;
  sha256: string;
  contentType: string;
  uploaderId: string | null;
  storageKey: string;
  streamId: string | null;
  eventTime: Date;
  storedAt: Date;
  /** What is wrong with its object, if that is known to be damaged. */
  problem: Problem | null;
}

/** A file with the same bytes as another. */
export type Twin = Pick<FileRow, "id" | "name" | "eventTime">;

const FILE_COLUMNS = `id, owner_id as "ownerId", name, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256,
  content_type as "contentType", uploader_id as "uploaderId", storage_key as "storageKey", stream_id as "streamId",
  event_time as "eventTime", stored_at as "storedAt", (select problem from damaged_objects where storage_key = files.storage_key) as problem`;

export async function selectFile(db: Db, ownerId: string, id: string): Promise<FileRow | undefined> {
  const { rows } = await db.query<FileRow>(`select ${FILE_COLUMNS} from files where id = $1 and owner_id = $2`, [id, ownerId]);
  return rows[0];
}

/** The first file that this owner handed in with the same bytes, before this one. */
export async function selectFirstTwin(db: Db, { id, ownerId, sha256, eventTime }: FileRow): Promise<Twin | undefined> {
  const { rows } = await db.query<Twin>(
    `select id, name, event_time as "eventTime" from files
     where owner_id = $1 and sha256 = decode($2, 'hex') and (event_time, id) < ($3, $4::uuid)
     order by event_time, id limit 1`, [ownerId, sha256, eventTime, id]);
  return rows[0];
}

/** Newest first; `after` is the last file of the page before. */
export async function selectFiles(db: Db, ownerId: string, limit: number, after?: FilePosition): Promise<FileRow[]> {
  const { rows } = await db.query<FileRow>(
    `select ${FILE_COLUMNS} from files
     where owner_id = $1 and ($2::timestamptz is null or (event_time, id) < ($2, $3::uuid))
     order by event_time desc, id desc limit $4`,
    [ownerId, after?.eventTime ?? null, after?.id ?? null, limit]);
  return rows;
}

export interface FilePosition {
  eventTime: Date;
  id: string;
}

/**
 * As selectFiles, but only files whose name or sender has that text, in capitals or not. However few there are, only the
 * next `most` files are looked through: a search of ten million takes many pages, and none takes long.
 */
export async function searchFiles(db: Db, ownerId: string, text: string, limit: number, most: number, after?: FilePosition): Promise<FileRow[]> {
  const { rows } = await db.query<FileRow>(
    `select ${FILE_COLUMNS} from (
       select id, owner_id, name, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time, stored_at from files
       where owner_id = $1 and ($2::timestamptz is null or (event_time, id) < ($2, $3::uuid))
       order by event_time desc, id desc limit $6
     ) as files
     where strpos(lower(name), lower($4)) > 0 or strpos(lower(uploader_id), lower($4)) > 0
     order by event_time desc, id desc limit $5`,
    [ownerId, after?.eventTime ?? null, after?.id ?? null, text, limit, most]);
  return rows;
}

/** The last of the next `most` files; undefined: there are not that many. */
export async function selectPosition(db: Db, ownerId: string, most: number, after?: FilePosition): Promise<FilePosition | undefined> {
  const { rows } = await db.query<FilePosition>(
    `select event_time as "eventTime", id from files
     where owner_id = $1 and ($2::timestamptz is null or (event_time, id) < ($2, $3::uuid))
     order by event_time desc, id desc offset $4 limit 1`,
    [ownerId, after?.eventTime ?? null, after?.id ?? null, most - 1]);
  return rows[0];
}

/** An object as `files` knows it; `sha256` is hexadecimal. */
export interface ObjectRow {
  key: string;
  sizeBytes: number;
  sha256: string;
}

export interface FoundDamage extends ObjectRow {
  problem: Problem;
  reason: string;
  /** What looked at it: download, settle, scrub or verify. */
  foundBy: string;
}

/** False: it was known before. */
export async function insertDamaged(tx: Db, { key, sizeBytes, sha256, problem, reason, foundBy }: FoundDamage): Promise<boolean> {
  const { rowCount } = await tx.query(
    `insert into damaged_objects (storage_key, size_bytes, sha256, problem, reason, found_by) values ($1, $2, decode($3, 'hex'), $4, $5, $6)
     on conflict (storage_key) do nothing`, [key, sizeBytes, sha256, problem, reason, foundBy]);
  return rowCount === 1;
}

/** False: it was not known to be damaged. */
export async function deleteDamaged(tx: Db, key: string): Promise<boolean> {
  const { rowCount } = await tx.query("delete from damaged_objects where storage_key = $1", [key]);
  return rowCount === 1;
}

/** Those of the objects that are known to be damaged. */
export async function selectDamagedAmong(db: Db, keys: readonly string[]): Promise<Set<string>> {
  const { rows } = await db.query<{ key: string }>("select storage_key as key from damaged_objects where storage_key = any($1)", [keys]);
  return new Set(rows.map(({ key }) => key));
}

/** Known damage that nobody has looked at since `before`; the longest unseen first. Marks it as looked at. */
export async function takeDamagedToCheck(db: Db, before: Date, limit: number): Promise<ObjectRow[]> {
  const { rows } = await db.query<ObjectRow>(
    `update damaged_objects set checked_at = now() where storage_key in
       (select storage_key from damaged_objects where checked_at < $1 order by checked_at limit $2)
     returning storage_key as key, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256`, [before, limit]);
  return rows;
}

/** Before the id of every file. */
export const FIRST_ID = "00000000-0000-0000-0000-000000000000";

export interface ObjectEvent {
  key: string;
  event: "damaged" | "repaired";
  reason: string;
  worker: string;
}

/**
 * A ledger row for each file that refers to the object, among `limit` files after `after`: files have no index by object,
 * because it would cost every upload, and this is rare.
 * @returns how many rows, and the last file looked at; null when there are no more
 */
export async function insertObjectEvents(
  tx: Db, { key, event, reason, worker }: ObjectEvent, after: string, limit: number,
): Promise<{ records: number; last: string | null }> {
  const { rows } = await tx.query<{ records: number; last: string | null }>(
    `with page as materialized (
       select id, owner_id, name, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id
       from files where id > $1 order by id limit $2
     ), written as (
       insert into file_events (event_time, file_id, event, file_name, size_bytes, sha256, content_type, uploader_id,
                                owner_id, stream_id, storage_key, worker, settled_at, settle_ms, reason)
       select now(), id, $4, name, size_bytes, sha256, content_type, uploader_id, owner_id, stream_id, storage_key, $5, now(), 0, $6
       from page where storage_key = $3
       returning 1
     )
     select (select count(*) from written) as records, (select id from page order by id desc limit 1) as last`,
    [after, limit, key, event, worker, reason]);
  return rows[0]!;
}

/** Last in its transaction: settling waits for this row. */
export async function addToTotals(tx: Db, records: number): Promise<void> {
  await tx.query("update ledger_totals set records = records + $1", [records]);
}

export interface ScrubState {
  /** The last file that was looked at in this round. */
  afterFile: string;
  beganAt: Date | null;
  endedAt: Date | null;
  objects: number;
  sizeBytes: number;
  damaged: number;
}

export async function selectScrub(db: Db): Promise<ScrubState> {
  const { rows } = await db.query<ScrubState>(
    `select after_file as "afterFile", began_at as "beganAt", ended_at as "endedAt", objects, size_bytes as "sizeBytes", damaged from scrub`);
  return rows[0]!;
}

export async function updateScrub(db: Db, { afterFile, beganAt, endedAt, objects, sizeBytes, damaged }: ScrubState): Promise<void> {
  await db.query("update scrub set after_file = $1, began_at = $2, ended_at = $3, objects = $4, size_bytes = $5, damaged = $6",
    [afterFile, beganAt, endedAt, objects, sizeBytes, damaged]);
}

export interface FileObject extends ObjectRow {
  id: string;
  /** Its object is known to be damaged. */
  damaged: boolean;
}

/** Files in the order of their ids, with their objects. */
export async function selectFileObjects(db: Db, after: string, limit: number): Promise<FileObject[]> {
  const { rows } = await db.query<FileObject>(
    `select id, storage_key as key, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256,
            exists (select from damaged_objects d where d.storage_key = files.storage_key) as damaged
     from files where id > $1 order by id limit $2`, [after, limit]);
  return rows;
}
