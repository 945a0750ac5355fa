import type { Db } from "../db/pool.ts";
import type { Manifest } from "./messages.ts";

/** A settled upload on its way into the tables. */
export interface SettledRow extends Omit<Manifest, "blob_key"> {
  storage_key: string;
  stream_id: string | null;
}

/**
 * Turns uploads into files, each exactly once, in one statement and so in one transaction: the primary key of `files`
 * decides who is new; only those get a ledger row and are counted, also for the audit, under whoever accepted them. What a
 * person discarded stays out: this statement and that of insertDiscarded exclude each other by their locks on dead_letters.
 * One JSON parameter instead of a dozen arrays: pg would escape each element of an array in JavaScript. It locks rows of
 * quarter_hours, by time, then of acceptances, by name, then that of ledger_totals (seen: PostgreSQL 17 runs the last part
 * first); who locks several should do so in this order.
 * @returns the ids that became files now
 */
export async function insertSettled(db: Db, rows: readonly SettledRow[], worker: string): Promise<Set<string>> {
  const { rows: fresh } = await db.query<{ id: string }>(
    `with incoming as materialized (
       select upload_id, owner_id, filename, size_bytes, decode(sha256, 'hex') as sha256, content_type, uploader_id,
              storage_key, stream_id, event_time, accepted_by
       from json_to_recordset($1::json) as r(upload_id uuid, owner_id uuid, filename text, size_bytes bigint, sha256 text,
              content_type text, uploader_id text, storage_key text, stream_id text, event_time timestamptz, accepted_by text)
     ), fresh as (
       insert into files (id, owner_id, name, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time)
       select upload_id, owner_id, filename, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time
       from incoming
       where not exists (select from discarded_uploads where discarded_uploads.upload_id = incoming.upload_id and discarded_uploads.event_time = incoming.event_time)
       order by upload_id
       on conflict (id) do nothing
       returning id, owner_id, name, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time, stored_at
     ), ledgered as (
       insert into file_events (event_time, file_id, event, file_name, size_bytes, sha256, content_type, uploader_id,
                                owner_id, stream_id, storage_key, worker, settled_at, settle_ms)
       select event_time, id, 'stored', name, size_bytes, sha256, content_type, uploader_id, owner_id, stream_id, storage_key,
              $2, stored_at, greatest(0, extract(epoch from stored_at - event_time) * 1000)
       from fresh
     ), retried as (
       delete from settle_attempts using fresh where upload_id = fresh.id
     ), raised as (
       delete from dead_letters using fresh where upload_id = fresh.id
     ), counted as (
       update ledger_totals set records = ledger_totals.records + added.records, size_bytes = ledger_totals.size_bytes + added.size_bytes
       from (select count(*) as records, coalesce(sum(size_bytes), 0) as size_bytes from fresh) as added
       where added.records > 0
     ), accepted as (
       insert into acceptances (accepted_by, stored_files, stored_bytes)
       select accepted_by, count(*), sum(fresh.size_bytes) from fresh join incoming on upload_id = fresh.id
       group by accepted_by order by accepted_by
       on conflict (accepted_by) do update
         set stored_files = acceptances.stored_files + excluded.stored_files, stored_bytes = acceptances.stored_bytes + excluded.stored_bytes
     ), charted as (
       insert into quarter_hours (begins_at, files, size_bytes)
       select date_bin('15 minutes', event_time, '1970-01-01Z') as begins_at, count(*), sum(size_bytes) from fresh group by 1 order by 1
       on conflict (begins_at) do update set files = quarter_hours.files + excluded.files, size_bytes = quarter_hours.size_bytes + excluded.size_bytes
     )
     select id from fresh`,
    [JSON.stringify(rows), worker]);
  return new Set(fresh.map(({ id }) => id));
}

/** The hashes (hexadecimal) of those ids that are files already. */
export async function selectSettledHashes(db: Db, ids: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await db.query<{ id: string; sha256: string }>(
    "select id, encode(sha256, 'hex') as sha256 from files where id = any($1::uuid[])", [ids]);
  return new Map(rows.map(({ id, sha256 }) => [id, sha256]));
}

/** What is known of an upload whose id was derived from its key. */
export interface KnownUpload {
  /** damaged: what is in storage is known not to be its bytes any more. */
  stored: { name: string; sizeBytes: number; sha256: string; streamId: string | null; damaged: boolean } | undefined;
  dead: boolean;
}

export async function selectKnown(db: Db, ownerId: string, id: string): Promise<KnownUpload> {
  const { rows } = await db.query<NonNullable<KnownUpload["stored"]> & { dead: boolean }>(
    `select false as dead, name, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256, stream_id as "streamId",
            exists (select from damaged_objects where damaged_objects.storage_key = files.storage_key) as damaged
     from files where id = $1 and owner_id = $2
     union all select true, null, null, null, null, null from dead_letters where upload_id = $1 and (owner_id = $2 or owner_id is null)`,
    [id, ownerId]);
  return { stored: rows.find((row) => !row.dead), dead: rows.some((row) => row.dead) };
}

/** The hashes (hexadecimal) of those ids that are files, but for those whose object is known to be damaged: their inbox entries may hold the good bytes. */
export async function selectSoundHashes(db: Db, ids: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await db.query<{ id: string; sha256: string }>(
    `select id, encode(sha256, 'hex') as sha256 from files where id = any($1::uuid[])
       and not exists (select from damaged_objects where damaged_objects.storage_key = files.storage_key)`, [ids]);
  return new Map(rows.map(({ id, sha256 }) => [id, sha256]));
}

/** Those of the ids whose story is over: a file, or a dead letter. */
export async function selectFinished(db: Db, ids: readonly string[]): Promise<{ stored: Set<string>; dead: Set<string> }> {
  const { rows } = await db.query<{ id: string; dead: boolean }>(
    `select id, false as dead from files where id = any($1::uuid[])
     union all select upload_id, true from dead_letters where upload_id = any($1::uuid[])`, [ids]);
  const pick = (dead: boolean) => new Set(rows.filter((row) => row.dead === dead).map(({ id }) => id));
  return { stored: pick(false), dead: pick(true) };
}

/** Writes down, once each, those of these settled uploads that were taken in again after they had been settled. */
export async function insertRepeats(db: Db, manifests: readonly Manifest[]): Promise<void> {
  if (manifests.length === 0) return;
  await db.query(
    `insert into repeats (upload_id, accepted_by, event_time, size_bytes)
     select upload_id, accepted_by, again.event_time, again.size_bytes
     from json_to_recordset($1::json) as again(upload_id uuid, accepted_by text, event_time timestamptz, size_bytes bigint)
     join files on files.id = upload_id where files.event_time <> again.event_time
     on conflict on constraint repeats_once do nothing`, [JSON.stringify(manifests)]);
}

export interface Trouble {
  uploadId: string;
  code: string;
  reason: string;
}

/**
 * Counts one failure of a delivery, unless these bytes are a file already or the upload was given up in this very delivery:
 * by a worker that did not come to acknowledge it. The row is locked first, in a statement of its own: the next one then sees
 * what whoever had it did, and does not begin to count anew where it was taken away.
 * @returns how many there are now; undefined: it is not counted
 */
export async function countAttempt(tx: Db, { uploadId, code, reason }: Trouble, streamId: string, sha256: string | undefined): Promise<number | undefined> {
  await tx.query("select from settle_attempts where upload_id = $1 for update", [uploadId]);
  const { rows } = await tx.query<{ attempts: number }>(
    `insert into settle_attempts (upload_id, attempts, code, reason)
     select $1, 1, $2, $3 where not exists (select from files where id = $1 and sha256 = decode($4, 'hex'))
       and not exists (select from dead_letters where upload_id = $1 and stream_id = $5)
     on conflict (upload_id) do update
       set attempts = settle_attempts.attempts + 1, code = excluded.code, reason = excluded.reason, last_failed_at = now()
     returning attempts`, [uploadId, code, reason, sha256, streamId]);
  return rows[0]?.attempts;
}

/**
 * Gives an upload up: from the list of those still tried to the dead letters, unless a person discarded it meanwhile.
 * @param manifest  the inbox's, or what the stream says the upload is; only to describe it
 */
export async function insertDeadLetter(db: Db, { uploadId, code, reason }: Trouble, streamId: string, manifest: Manifest | undefined): Promise<void> {
  await db.query(
    `with tried as (delete from settle_attempts where upload_id = $1 returning attempts, first_failed_at)
     insert into dead_letters (upload_id, owner_id, file_name, size_bytes, stream_id, attempts, code, reason, message, first_failed_at)
     select $1, $2, $3, $4, $5, attempts, $6, $7, $8, first_failed_at from tried
     where not exists (select from discarded_uploads where upload_id = $1 and event_time = $9)
     on conflict (upload_id) do update
       set attempts = excluded.attempts, stream_id = excluded.stream_id, code = excluded.code, reason = excluded.reason, failed_at = now(),
           owner_id = coalesce(excluded.owner_id, dead_letters.owner_id), file_name = coalesce(excluded.file_name, dead_letters.file_name),
           size_bytes = coalesce(excluded.size_bytes, dead_letters.size_bytes), message = coalesce(excluded.message, dead_letters.message)`,
    [uploadId, manifest?.owner_id, manifest && plain(manifest.filename), manifest?.size_bytes, streamId, code, reason,
      manifest && JSON.stringify(manifest, (_key, value: unknown) => (typeof value === "string" ? plain(value) : value)),
      manifest && new Date(manifest.event_time)]);
}

/** Text that PostgreSQL takes in a column and in jsonb: without NUL and lone surrogates. */
function plain(text: string): string {
  return text.replaceAll("\0", "").toWellFormed();
}

export interface LedgerTotals {
  records: number;
  sizeBytes: number;
  deadLetters: number;
  /** Stored objects that are known to be damaged. */
  damaged: number;
}

/** Kept by insertSettled, so this reads two rows however long the ledger is. */
export async function selectTotals(db: Db): Promise<LedgerTotals> {
  const { rows } = await db.query<LedgerTotals>(
    `select records, size_bytes as "sizeBytes", (select count(*) from dead_letters) as "deadLetters",
            (select count(*) from damaged_objects) as damaged
     from ledger_totals`);
  return rows[0]!;
}

/** Takes rows of dropped chunks off the count. */
export async function subtractFromTotals(db: Db, records: number): Promise<void> {
  await db.query("update ledger_totals set records = records - $1", [records]);
}
