import type { Db } from "../db/pool.ts";
import type { Manifest } from "./messages.ts";

/** A settled upload on its way into the tables. */
export interface SettledRow extends Omit<Manifest, "blob_key"> {
  storage_key: string;
  stream_id: string | null;
}

/**
 * Turns uploads into files, each exactly once, in one statement and so in one transaction: the primary key of `files`
 * decides who is new; only those get a ledger row and are counted. One JSON parameter instead of a dozen arrays: pg
 * would escape each element of an array in JavaScript.
 * @returns the ids that became files now
 */
export async function insertSettled(db: Db, rows: readonly SettledRow[], worker: string): Promise<Set<string>> {
  const { rows: fresh } = await db.query<{ id: string }>(
    `with incoming as materialized (
       select upload_id, owner_id, filename, size_bytes, decode(sha256, 'hex') as sha256, content_type, uploader_id,
              storage_key, stream_id, event_time
       from json_to_recordset($1::json) as r(upload_id uuid, owner_id uuid, filename text, size_bytes bigint, sha256 text,
              content_type text, uploader_id text, storage_key text, stream_id text, event_time timestamptz)
     ), fresh as (
       insert into files (id, owner_id, name, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time)
       select upload_id, owner_id, filename, size_bytes, sha256, content_type, uploader_id, storage_key, stream_id, event_time
       from incoming order by upload_id
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

/** Those of the ids whose story is over: a file, or a dead letter. */
export async function selectFinished(db: Db, ids: readonly string[]): Promise<{ stored: Set<string>; dead: Set<string> }> {
  const { rows } = await db.query<{ id: string; dead: boolean }>(
    `select id, false as dead from files where id = any($1::uuid[])
     union all select upload_id, true from dead_letters where upload_id = any($1::uuid[])`, [ids]);
  const pick = (dead: boolean) => new Set(rows.filter((row) => row.dead === dead).map(({ id }) => id));
  return { stored: pick(false), dead: pick(true) };
}

export interface Trouble {
  uploadId: string;
  code: string;
  reason: string;
}

/** Counts one failure. @returns how many there are now */
export async function countAttempt(db: Db, { uploadId, code, reason }: Trouble): Promise<number> {
  const { rows } = await db.query<{ attempts: number }>(
    `insert into settle_attempts (upload_id, attempts, code, reason) values ($1, 1, $2, $3)
     on conflict (upload_id) do update
       set attempts = settle_attempts.attempts + 1, code = excluded.code, reason = excluded.reason, last_failed_at = now()
     returning attempts`, [uploadId, code, reason]);
  return rows[0]!.attempts;
}

/** Gives an upload up: from the list of those still tried to the dead letters. */
export async function insertDeadLetter(db: Db, { uploadId, code, reason }: Trouble, streamId: string, manifest: Manifest | undefined): Promise<void> {
  await db.query(
    `with tried as (delete from settle_attempts where upload_id = $1 returning attempts, first_failed_at)
     insert into dead_letters (upload_id, owner_id, file_name, size_bytes, stream_id, attempts, code, reason, message, first_failed_at)
     select $1, $2, $3, $4, $5, attempts, $6, $7, $8, first_failed_at from tried
     on conflict (upload_id) do update
       set attempts = excluded.attempts, code = excluded.code, reason = excluded.reason, failed_at = now()`,
    [uploadId, manifest?.owner_id, manifest?.filename.replaceAll("\0", ""), manifest?.size_bytes, streamId, code, reason,
      manifest && JSON.stringify(manifest).replaceAll("\\u0000", "")]);
}

export interface DeadLetter {
  uploadId: string;
  attempts: number;
  code: string;
  reason: string;
  failedAt: Date;
}

export async function selectDeadLetter(db: Db, ownerId: string, uploadId: string): Promise<DeadLetter | undefined> {
  const { rows } = await db.query<DeadLetter>(
    `select upload_id as "uploadId", attempts, code, reason, failed_at as "failedAt" from dead_letters
     where upload_id = $1 and (owner_id = $2 or owner_id is null)`, [uploadId, ownerId]);
  return rows[0];
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
