import type { Readable } from "node:stream";
import { Failure, Unavailable } from "../core/errors.ts";
import { isId } from "../core/ids.ts";
import type { Db } from "../db/pool.ts";
import type { ByteRange, ObjectStore } from "../objects/object-store.ts";
import * as queries from "./queries.ts";
import type { FileRow } from "./queries.ts";

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
  /** @throws Unavailable; Failure FILE_NOT_FOUND when the bytes are gone */
  open(range?: ByteRange): Promise<Readable>;
}

/** Uploads that are acknowledged but not settled yet; the uploads slice provides it. */
export interface Unsettled {
  find(ownerId: string, id: string): Promise<ServableFile | undefined>;
}

const MOST_PER_PAGE = 500;

export type Files = ReturnType<typeof createFiles>;

export function createFiles({ db, storage, unsettled }: { db: Db; storage: ObjectStore; unsettled: Unsettled }) {
  /**
   * A file of this owner: from storage when it is settled, else from the inbox.
   * With the database down, what is in the inbox is still found.
   * @throws Failure FILE_NOT_FOUND, Unavailable
   */
  async function find(ownerId: string, id: string): Promise<ServableFile> {
    if (!isId(id)) throw new Failure("FILE_NOT_FOUND");
    // The inbox first: an upload leaves it only after its row is committed, so looking there and then in the
    // database never misses one that is settled in between.
    const waiting = await unsettled.find(ownerId, id);
    const row = await queries.selectFile(db, ownerId, id).catch((error: unknown) => {
      if (waiting && error instanceof Unavailable) return undefined;
      throw error;
    });
    // A file that is stored is what it is, even if other bytes wait under its id (a reused Idempotency-Key, not judged yet).
    if (!row && waiting) return waiting;
    if (!row) throw new Failure("FILE_NOT_FOUND");
    return { ...row, open: (range) => openStored(row, range) };
  }

  async function openStored(row: FileRow, range?: ByteRange): Promise<Readable> {
    const object = await storage.read(row.storageKey, range);
    if (!object) throw new Failure("FILE_NOT_FOUND", "The file's bytes are missing from storage.");
    return object.stream;
  }

  /** The settled file of this owner, or undefined. @throws Unavailable */
  function findStored(ownerId: string, id: string): Promise<FileRow | undefined> {
    return queries.selectFile(db, ownerId, id);
  }

  /** One page, newest first. @param cursor of the page before; @throws Failure INVALID_QUERY */
  async function list(ownerId: string, limit: number, cursor?: string): Promise<{ files: FileRow[]; nextCursor: string | null }> {
    const wanted = Math.min(limit, MOST_PER_PAGE);
    const rows = await queries.selectFiles(db, ownerId, wanted + 1, cursor === undefined ? undefined : decodeCursor(cursor));
    const files = rows.slice(0, wanted);
    return { files, nextCursor: rows.length > wanted ? encodeCursor(files.at(-1)!) : null };
  }

  return { find, findStored, list };
}

function encodeCursor({ eventTime, id }: FileRow): string {
  return Buffer.from(`${eventTime.getTime()} ${id}`).toString("base64url");
}

function decodeCursor(cursor: string): { eventTime: Date; id: string } {
  const [time = "", id = ""] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (!/^\d{1,15}$/.test(time) || !isId(id)) throw new Failure("INVALID_QUERY", "cursor: take it from next_cursor of the page before.");
  return { eventTime: new Date(Number(time)), id };
}
