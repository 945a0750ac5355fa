import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";

const CHUNK_CHARACTERS = 64 * 1024;

/**
 * Puts rows into a table by COPY, which takes them twice as fast as INSERT.
 * @param target  a table and its columns, from our own code: "events (site_id, path)"
 * @param rows  values as PostgreSQL reads them from text
 * @returns how many there are now
 */
export async function copyRows(client: pg.ClientBase, target: string, rows: Iterable<readonly (string | null)[]>): Promise<number> {
  const copy = client.query(copyFrom(`copy ${target} from stdin`));
  await pipeline(Readable.from(chunksOf(rows), { objectMode: false }), copy);
  return copy.rowCount;
}

function* chunksOf(rows: Iterable<readonly (string | null)[]>): Generator<Buffer> {
  let chunk = "";
  for (const row of rows) {
    for (let at = 0; at < row.length; at++) {
      const value = row[at];
      if (at > 0) chunk += "\t";
      chunk += value === null || value === undefined ? "\\N" : escape(value);
    }
    chunk += "\n";
    if (chunk.length < CHUNK_CHARACTERS) continue;
    yield Buffer.from(chunk);
    chunk = "";
  }
  if (chunk !== "") yield Buffer.from(chunk);
}

const SPECIAL = /[\\\n\r\t]/;
const ESCAPES: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** https://www.postgresql.org/docs/17/sql-copy.html, "Text Format" */
function escape(value: string): string {
  return SPECIAL.test(value) ? value.replace(/[\\\n\r\t]/g, (character) => ESCAPES[character]!) : value;
}
