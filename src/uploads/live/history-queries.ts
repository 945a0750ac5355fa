import type { Db } from "../../db/pool.ts";

/** Uploads that became files, by when they were accepted. */
export interface StoredBucket {
  beginsAt: Date;
  files: number;
  sizeBytes: number;
}

/** Only buckets that have some. @param bucketSeconds  a multiple of a quarter of an hour; buckets count from 1970 */
export async function selectStored(db: Db, since: Date, bucketSeconds: number): Promise<StoredBucket[]> {
  const { rows } = await db.query<StoredBucket>(
    `select date_bin(make_interval(secs => $2), begins_at, '1970-01-01Z') as "beginsAt", sum(files)::bigint as files, sum(size_bytes)::bigint as "sizeBytes"
     from quarter_hours where begins_at >= $1 group by 1`, [since, bucketSeconds]);
  return rows;
}

/**
 * Dead letters that are still there, by when they were given up.
 * @returns undefined when there are more than `most`: their number is not worth the reading
 */
export async function selectFailed(db: Db, since: Date, bucketSeconds: number, most: number): Promise<{ beginsAt: Date; uploads: number }[] | undefined> {
  const { rows } = await db.query<{ beginsAt: Date; uploads: number }>(
    `select date_bin(make_interval(secs => $2), failed_at, '1970-01-01Z') as "beginsAt", count(*) as uploads
     from (select failed_at from dead_letters where failed_at >= $1 order by failed_at desc limit $3) as newest group by 1`,
    [since, bucketSeconds, most + 1]);
  return rows.reduce((sum, { uploads }) => sum + uploads, 0) > most ? undefined : rows;
}

/** Uploads whose settling failed and is tried again, counted up to `most`. */
export async function countRetrying(db: Db, most: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>("select count(*) as count from (select from settle_attempts limit $1) as counted", [most]);
  return rows[0]!.count;
}
