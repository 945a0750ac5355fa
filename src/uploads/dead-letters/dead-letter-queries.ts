import type { Db } from "../../db/pool.ts";
import type { Manifest } from "../messages.ts";

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
