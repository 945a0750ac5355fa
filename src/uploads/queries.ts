import type { Db } from "../db/pool.ts";
import { UNKNOWN_ACCEPTOR, type Manifest } from "./messages.ts";

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
 * acceptances, by name, then that of ledger_totals (seen: PostgreSQL 17 runs the last part first); who locks both should do
 * so in this order.
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
  stored: { name: string; sizeBytes: number; sha256: string; streamId: string | null } | undefined;
  dead: boolean;
}

export async function selectKnown(db: Db, ownerId: string, id: string): Promise<KnownUpload> {
  const { rows } = await db.query<NonNullable<KnownUpload["stored"]> & { dead: boolean }>(
    `select false as dead, name, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256, stream_id as "streamId"
     from files where id = $1 and owner_id = $2
     union all select true, null, null, null, null from dead_letters where upload_id = $1 and (owner_id = $2 or owner_id is null)`,
    [id, ownerId]);
  return { stored: rows.find((row) => !row.dead), dead: rows.some((row) => row.dead) };
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

/** Counts one failure, unless these bytes are a file already. @returns how many there are now; undefined: they are a file */
export async function countAttempt(db: Db, { uploadId, code, reason }: Trouble, sha256: string | undefined): Promise<number | undefined> {
  const { rows } = await db.query<{ attempts: number }>(
    `insert into settle_attempts (upload_id, attempts, code, reason)
     select $1, 1, $2, $3 where not exists (select from files where id = $1 and sha256 = decode($4, 'hex'))
     on conflict (upload_id) do update
       set attempts = settle_attempts.attempts + 1, code = excluded.code, reason = excluded.reason, last_failed_at = now()
     returning attempts`, [uploadId, code, reason, sha256]);
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
       set attempts = excluded.attempts, code = excluded.code, reason = excluded.reason, failed_at = now(),
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

export interface DeadLetter {
  uploadId: string;
  /** What is known of the upload; the stream's word for it where the inbox has lost it. */
  fileName: string | null;
  sizeBytes: number | null;
  sha256: string | null;
  uploaderId: string | null;
  blobKey: string | null;
  /** All of it, a manifest; not to be trusted where the stream alone says it. */
  message: unknown;
  attempts: number;
  code: string;
  reason: string;
  firstFailedAt: Date;
  failedAt: Date;
  /** failedAt to the microsecond, since 1970: what pages are cut by. */
  failedAtMicros: number;
}

/** Where a page begins: behind this letter. */
export type DeadLetterPosition = Pick<DeadLetter, "uploadId" | "failedAtMicros">;

const DEAD_LETTER_COLUMNS = `upload_id as "uploadId", file_name as "fileName", size_bytes as "sizeBytes", message->>'sha256' as sha256,
  message->>'uploader_id' as "uploaderId", message->>'blob_key' as "blobKey", message, attempts, code, reason, first_failed_at as "firstFailedAt", failed_at as "failedAt",
  (extract(epoch from failed_at) * 1000000)::bigint as "failedAtMicros"`;
const OWN = "(owner_id = $1 or owner_id is null)";
const BEHIND = `($3::double precision is null or failed_at < timestamptz 'epoch' + $3 * interval '1 microsecond'
  or failed_at = timestamptz 'epoch' + $3 * interval '1 microsecond' and upload_id > $4::uuid)`;

export async function selectDeadLetter(db: Db, ownerId: string, uploadId: string): Promise<DeadLetter | undefined> {
  const { rows } = await db.query<DeadLetter>(`select ${DEAD_LETTER_COLUMNS} from dead_letters where ${OWN} and upload_id = $2`, [ownerId, uploadId]);
  return rows[0];
}

/** Newest first. */
export async function selectDeadLetters(db: Db, ownerId: string, limit: number, after?: DeadLetterPosition): Promise<DeadLetter[]> {
  const { rows } = await db.query<DeadLetter>(
    `select ${DEAD_LETTER_COLUMNS} from dead_letters where ${OWN} and ${BEHIND} order by failed_at desc, upload_id limit $2`,
    [ownerId, limit, after?.failedAtMicros ?? null, after?.uploadId ?? null]);
  return rows;
}

/** Those of the letters that are still there, and nobody else's until the transaction ends. The table's lock first: see insertDiscarded. */
export async function lockDeadLetters(tx: Db, ownerId: string, uploadIds: readonly string[]): Promise<DeadLetter[]> {
  await tx.query("lock table dead_letters in row exclusive mode");
  const { rows } = await tx.query<DeadLetter>(
    `select ${DEAD_LETTER_COLUMNS} from dead_letters where ${OWN} and upload_id = any($2::uuid[]) order by upload_id for update`, [ownerId, uploadIds]);
  return rows;
}

/** As lockDeadLetters, while nothing at all is settled: for insertDiscarded. */
export async function lockDeadLetterAlone(tx: Db, ownerId: string, uploadId: string): Promise<DeadLetter | undefined> {
  await tx.query("lock table dead_letters in share row exclusive mode");
  const { rows } = await tx.query<DeadLetter>(`select ${DEAD_LETTER_COLUMNS} from dead_letters where ${OWN} and upload_id = $2 for update`, [ownerId, uploadId]);
  return rows[0];
}

/** With all that was counted against them: their next attempt is their first. */
export async function deleteDeadLetters(tx: Db, uploadIds: readonly string[]): Promise<void> {
  await tx.query(
    `with tried as (delete from settle_attempts where upload_id = any($1::uuid[]))
     delete from dead_letters where upload_id = any($1::uuid[])`, [uploadIds]);
}

/**
 * Takes a letter off the dead letters for good, and writes down that it was: in the ledger, in its count, and in the audit's.
 * Under the lock of lockDeadLetterAlone, whose strength every statement that settles or gives up an upload waits for, so
 * that each of them comes wholly before (and there is no letter any more) or wholly after (and sees the upload discarded).
 * A letter of which nothing is known leaves no trace: there is no file to tell of, and nobody is known to have accepted it.
 * storage_key is empty, as nothing was stored.
 * @param manifest  the inbox's where it has one, else the letter's own description
 */
export async function insertDiscarded(tx: Db, uploadId: string, manifest: Manifest | undefined, reason: string, worker: string): Promise<void> {
  await tx.query(
    `with letter as (
       delete from dead_letters where upload_id = $1 returning stream_id, coalesce($2::jsonb, message) as message
     ), tried as (
       delete from settle_attempts where upload_id = $1
     ), marked as (
       insert into discarded_uploads (upload_id, event_time)
       select $1, (message->>'event_time')::timestamptz from letter where message is not null
       on conflict do nothing
     ), ledgered as (
       insert into file_events (event_time, file_id, event, file_name, size_bytes, sha256, content_type, uploader_id, owner_id,
                                stream_id, storage_key, worker, settled_at, settle_ms, reason)
       select now(), $1, 'discarded', message->>'filename', (message->>'size_bytes')::bigint, decode(message->>'sha256', 'hex'), message->>'content_type',
              message->>'uploader_id', (message->>'owner_id')::uuid, stream_id, '', $4, now(), 0, $3
       from letter where message is not null
       returning 1
     ), counted as (
       update ledger_totals set records = records + 1 where exists (select from ledgered)
     )
     insert into acceptances (accepted_by, discarded_files, discarded_bytes)
     select coalesce(message->>'accepted_by', 'unknown'), 1, (message->>'size_bytes')::bigint from letter where message is not null
     on conflict (accepted_by) do update
       set discarded_files = acceptances.discarded_files + 1, discarded_bytes = acceptances.discarded_bytes + excluded.discarded_bytes`,
    [uploadId, manifest && JSON.stringify(manifest), reason, worker]);
}

/** When those of the uploads were accepted that a person discarded; the same id may have been accepted again since. */
export async function selectDiscarded(db: Db, uploadIds: readonly string[]): Promise<{ uploadId: string; eventTime: Date }[]> {
  const { rows } = await db.query<{ uploadId: string; eventTime: Date }>(
    `select upload_id as "uploadId", event_time as "eventTime" from discarded_uploads where upload_id = any($1::uuid[])`, [uploadIds]);
  return rows;
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

export interface Outcome {
  acceptedBy: string;
  storedFiles: number;
  storedBytes: number;
  discardedFiles: number;
  discardedBytes: number;
  failedFiles: number;
  failedBytes: number;
  repeatedFiles: number;
  repeatedBytes: number;
}

/** The first statement of a transaction that is to see one state of the database throughout. */
export async function holdSnapshot(tx: Db): Promise<void> {
  await tx.query("set transaction isolation level repeatable read, read only");
}

/** What became of the uploads that each web process acknowledged. A dead letter without a manifest is nobody's. */
export async function selectOutcomes(db: Db): Promise<Outcome[]> {
  const { rows } = await db.query<Outcome>(
    `select accepted_by as "acceptedBy",
            sum(stored_files)::bigint as "storedFiles", sum(stored_bytes)::bigint as "storedBytes",
            sum(discarded_files)::bigint as "discardedFiles", sum(discarded_bytes)::bigint as "discardedBytes",
            sum(failed)::bigint as "failedFiles", sum(failed * size_bytes)::bigint as "failedBytes",
            sum(repeated)::bigint as "repeatedFiles", sum(repeated * size_bytes)::bigint as "repeatedBytes"
     from (select accepted_by, stored_files, stored_bytes, discarded_files, discarded_bytes, 0 as failed, 0 as repeated, 0 as size_bytes from acceptances
           union all select coalesce(message ->> 'accepted_by', $1), 0, 0, 0, 0, 1, 0, (message ->> 'size_bytes')::bigint
                     from dead_letters where message is not null
           union all select accepted_by, 0, 0, 0, 0, 0, 1, size_bytes from repeats) as found
     group by accepted_by`, [UNKNOWN_ACCEPTOR]);
  return rows;
}

/** Which acceptances of these uploads selectOutcomes has counted. acceptedBy is null where the event time alone tells. */
export async function selectCounted(db: Db, ids: readonly string[]): Promise<{ id: string; acceptedBy: string | null; eventTime: Date }[]> {
  const { rows } = await db.query<{ id: string; acceptedBy: string | null; eventTime: Date }>(
    `select id, null as "acceptedBy", event_time as "eventTime" from files where id = any($1::uuid[])
     union all select upload_id, accepted_by, event_time from repeats where upload_id = any($1::uuid[])
     union all select upload_id, coalesce(message ->> 'accepted_by', $2), (message ->> 'event_time')::timestamptz
               from dead_letters where upload_id = any($1::uuid[]) and message is not null`, [ids, UNKNOWN_ACCEPTOR]);
  return rows;
}

/** The tallies that were copied from the inbox. */
export async function selectRemembered(db: Db): Promise<{ acceptedBy: string; files: number; bytes: number }[]> {
  const { rows } = await db.query<{ acceptedBy: string; files: number; bytes: number }>(
    `select accepted_by as "acceptedBy", acknowledged_files as files, acknowledged_bytes as bytes from acceptances
     where acknowledged_files > 0`);
  return rows;
}

/** Copies tallies from the inbox; a count never goes down. */
export async function rememberTallies(db: Db, tallies: readonly { acceptedBy: string; files: number; bytes: number }[]): Promise<void> {
  if (tallies.length === 0) return;
  await db.query(
    `insert into acceptances (accepted_by, acknowledged_files, acknowledged_bytes)
     select "acceptedBy", files, bytes from json_to_recordset($1::json) as seen("acceptedBy" text, files bigint, bytes bigint)
     order by "acceptedBy"
     on conflict (accepted_by) do update
       set acknowledged_files = greatest(acceptances.acknowledged_files, excluded.acknowledged_files),
           acknowledged_bytes = greatest(acceptances.acknowledged_bytes, excluded.acknowledged_bytes)`, [JSON.stringify(tallies)]);
}
