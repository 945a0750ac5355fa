import type { Db } from "../../db/pool.ts";
import { UNKNOWN_ACCEPTOR } from "../messages.ts";

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

/**
 * What became of the uploads that each web process acknowledged. A dead letter whose inbox entry is missing is not found:
 * its bytes are lost, and that is an alarm until somebody discards it.
 */
export async function selectOutcomes(db: Db): Promise<Outcome[]> {
  const { rows } = await db.query<Outcome>(
    `select accepted_by as "acceptedBy",
            sum(stored_files)::bigint as "storedFiles", sum(stored_bytes)::bigint as "storedBytes",
            sum(discarded_files)::bigint as "discardedFiles", sum(discarded_bytes)::bigint as "discardedBytes",
            sum(failed)::bigint as "failedFiles", sum(failed * size_bytes)::bigint as "failedBytes",
            sum(repeated)::bigint as "repeatedFiles", sum(repeated * size_bytes)::bigint as "repeatedBytes"
     from (select accepted_by, stored_files, stored_bytes, discarded_files, discarded_bytes, 0 as failed, 0 as repeated, 0 as size_bytes from acceptances
           union all select coalesce(message ->> 'accepted_by', $1), 0, 0, 0, 0, 1, 0, (message ->> 'size_bytes')::bigint
                     from dead_letters where message is not null and code <> 'INBOX_ENTRY_MISSING'
           union all select accepted_by, 0, 0, 0, 0, 0, 1, size_bytes from repeats) as found
     group by accepted_by`, [UNKNOWN_ACCEPTOR]);
  return rows;
}

/** Which acceptances of these uploads selectOutcomes has counted. acceptedBy is null where the event time alone tells. */
export async function selectCounted(db: Db, ids: readonly string[]): Promise<{ id: string; acceptedBy: string | null; eventTime: Date }[]> {
  const { rows } = await db.query<{ id: string; acceptedBy: string | null; eventTime: Date }>(
    `select id, null as "acceptedBy", event_time as "eventTime" from files where id = any($1::uuid[])
     union all select upload_id, accepted_by, event_time from repeats where upload_id = any($1::uuid[])
     union all select upload_id, null, event_time from discarded_uploads where upload_id = any($1::uuid[])
     union all select upload_id, coalesce(message ->> 'accepted_by', $2), (message ->> 'event_time')::timestamptz
               from dead_letters where upload_id = any($1::uuid[]) and message is not null and code <> 'INBOX_ENTRY_MISSING'`, [ids, UNKNOWN_ACCEPTOR]);
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
