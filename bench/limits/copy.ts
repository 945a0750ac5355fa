import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";

/** How fast the same events go into the same hypertable with nothing around it: one COPY of a file. */

const COLUMNS = "site_id, event_type, path, user_id, timestamp, event_id";
const CHUNK_BYTES = 1_048_576;

/** All events that are there, in the order in which they came. @returns bytes of the file */
export async function writeEventsFile(client: pg.Client, file: string): Promise<number> {
  await pipeline(client.query(copyTo(`copy (select ${COLUMNS} from events order by id) to stdout`)), createWriteStream(file));
  return (await stat(file)).size;
}

/** @returns rows a second */
export async function measureCopy(client: pg.Client, file: string): Promise<number> {
  const startedAt = performance.now();
  const copy = client.query(copyFrom(`copy events (${COLUMNS}) from stdin`));
  await pipeline(createReadStream(file, { highWaterMark: CHUNK_BYTES }), copy);
  return (copy.rowCount / (performance.now() - startedAt)) * 1000;
}
