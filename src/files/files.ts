import type { Readable } from "node:stream";
import { Failure, Unavailable } from "../core/errors.ts";
import { isId } from "../core/ids.ts";
import type { Db } from "../db/pool.ts";
import { Damaged, type ByteRange, type Problem } from "../objects/object-store.ts";
import type { Verifier } from "../objects/verify.ts";
import type { Damage } from "./damage.ts";
import * as queries from "./queries.ts";
import type { FileRow, Twin } from "./queries.ts";

/** A file that can be served: settled, or still waiting in the inbox. */
export interface ServableFile {
  id: string;
  name: string;
  sizeBytes: number;
  /** Hexadecimal. */
  sha256: string;
  contentType: string;
  uploaderId: string | null;
  eventTime: Date;
  /** Null while the upload is not settled. */
  storedAt: Date | null;
  /** What is wrong with its bytes, if that is known. */
  problem: Problem | null;
  /**
   * The right bytes or, should it turn out late that they are not, too few of them.
   * @throws Unavailable, Damaged, the stream too; Failure FILE_NOT_FOUND when it was settled in this moment
   */
  open(range?: ByteRange): Promise<Readable>;
}

/** Uploads that are acknowledged but not settled yet; the uploads slice provides it. */
export interface Unsettled {
  /** @throws Failure FILE_DAMAGED when what waits under the id cannot be read; Unavailable */
  find(ownerId: string, id: string): Promise<ServableFile | undefined>;
}

const MOST_PER_PAGE = 500;

export type Files = ReturnType<typeof createFiles>;

export function createFiles({ db, verifier, damage, unsettled }: { db: Db; verifier: Verifier; damage: Damage; unsettled: Unsettled }) {
  /**
   * A file of this owner: from storage when it is settled, else from the inbox.
   * With the database down, what is in the inbox is still found.
   * @throws Failure FILE_NOT_FOUND, Unavailable
   */
  async function find(ownerId: string, id: string): Promise<ServableFile> {
    if (!isId(id)) throw new Failure("FILE_NOT_FOUND");
    // The inbox first: an upload leaves it only after its row is committed, so looking there and then in the
    // database never misses one that is settled in between.
    const [waiting, damaged] = await unsettled.find(ownerId, id).then((found) => [found, undefined] as const, (error: unknown) => {
      if (error instanceof Failure) return [undefined, error] as const;
      throw error;
    });
    const row = await queries.selectFile(db, ownerId, id).catch((error: unknown) => {
      if (waiting && error instanceof Unavailable) return undefined;
      throw error;
    });
    if (!row && damaged) throw damaged;
    // A file that is stored is what it is, even if other bytes wait under its id (a reused Idempotency-Key, not judged yet).
    if (!row && waiting) return waiting;
    if (!row) throw new Failure("FILE_NOT_FOUND");
    return { ...row, open: (range) => openStored(row, range) };
  }

  async function openStored({ storageKey, sizeBytes, sha256 }: FileRow, range?: ByteRange): Promise<Readable> {
    const expected = { key: storageKey, sizeBytes, sha256 };
    const report = (error: unknown) => {
      if (error instanceof Damaged) damage.report(expected, "download");
    };
    try {
      const stream = await verifier.open(expected, range);
      return stream.once("error", report);
    } catch (error) {
      report(error);
      throw error;
    }
  }

  /** The settled file of this owner, or undefined. @throws Unavailable */
  function findStored(ownerId: string, id: string): Promise<FileRow | undefined> {
    return queries.selectFile(db, ownerId, id);
  }

  /** The first file with the same bytes that this owner handed in before it; null: these bytes were new. @throws Unavailable */
  async function findFirstTwin(file: FileRow): Promise<Twin | null> {
    return (await queries.selectFirstTwin(db, file)) ?? null;
  }

  /** One page, newest first. @param cursor of the page before; @throws Failure INVALID_QUERY */
  async function list(ownerId: string, limit: number, cursor?: string): Promise<{ files: FileRow[]; nextCursor: string | null }> {
    const wanted = Math.min(limit, MOST_PER_PAGE);
    const rows = await queries.selectFiles(db, ownerId, wanted + 1, cursor === undefined ? undefined : decodeCursor(cursor));
    const files = rows.slice(0, wanted);
    return { files, nextCursor: rows.length > wanted ? encodeCursor(files.at(-1)!) : null };
  }

  return { find, findStored, findFirstTwin, list };
}

function encodeCursor({ eventTime, id }: FileRow): string {
  return Buffer.from(`${eventTime.getTime()} ${id}`).toString("base64url");
}

function decodeCursor(cursor: string): { eventTime: Date; id: string } {
  const [time = "", id = ""] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (!/^\d{1,15}$/.test(time) || !isId(id)) throw new Failure("INVALID_QUERY", "cursor: take it from next_cursor of the page before.");
  return { eventTime: new Date(Number(time)), id };
}
