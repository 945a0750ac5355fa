import type { Db } from "../db/pool.ts";

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
}

const FILE_COLUMNS = `id, owner_id as "ownerId", name, size_bytes as "sizeBytes", encode(sha256, 'hex') as sha256,
  content_type as "contentType", uploader_id as "uploaderId", storage_key as "storageKey", stream_id as "streamId",
  event_time as "eventTime", stored_at as "storedAt"`;

export async function selectFile(db: Db, ownerId: string, id: string): Promise<FileRow | undefined> {
  const { rows } = await db.query<FileRow>(`select ${FILE_COLUMNS} from files where id = $1 and owner_id = $2`, [id, ownerId]);
  return rows[0];
}

/** Newest first; `after` is the last file of the page before. */
export async function selectFiles(db: Db, ownerId: string, limit: number, after?: { eventTime: Date; id: string }): Promise<FileRow[]> {
  const { rows } = await db.query<FileRow>(
    `select ${FILE_COLUMNS} from files
     where owner_id = $1 and ($2::timestamptz is null or (event_time, id) < ($2, $3::uuid))
     order by event_time desc, id desc limit $4`,
    [ownerId, after?.eventTime ?? null, after?.id ?? null, limit]);
  return rows;
}
