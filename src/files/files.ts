import type { Readable } from "node:stream";
import { Failure, Unavailable } from "../core/errors.ts";
import { isId } from "../core/ids.ts";
import type { Db } from "../db/pool.ts";
import { Damaged, type ByteRange, type Problem } from "../objects/object-store.ts";
import type { Verifier } from "../objects/verify.ts";
import type { Damage } from "./damage.ts";
import * as queries from "./queries.ts";
import type { FilePosition, FileRow, Twin } from "./queries.ts";

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

/** A line of a list. What is not stored may be a dead letter of which not all is known any more. */
export interface ListedFile {
  id: string;
  status: "accepted" | "settling" | "stored" | "failed";
  name: string | null;
  sizeBytes: number | null;
  sha256: string | null;
  contentType: string | null;
  uploaderId: string | null;
  eventTime: Date;
  storedAt: Date | null;
  problem: Problem | null;
  /** Why it failed. */
  reason: string | null;
}

export const LISTED = ["stored", "waiting", "failed", "any"] as const;

export interface Wanted {
  limit: number;
  /** Of the page before. */
  cursor?: string | undefined;
  /** In the name or the sender. */
  text?: string | undefined;
  status?: (typeof LISTED)[number];
}

/** Uploads that are acknowledged but not settled yet; the uploads slice provides it. */
export interface Unsettled {
  /** The newest that wait, or that failed, of at most so many that are looked at. @throws Unavailable */
  listWaiting(ownerId: string, most: number): Promise<ListedFile[]>;
  listFailed(ownerId: string, most: number): Promise<ListedFile[]>;
  /** @throws Failure FILE_DAMAGED when what waits under the id cannot be read; Unavailable */
  find(ownerId: string, id: string): Promise<ServableFile | undefined>;
}

const MOST_PER_PAGE = 500;
const MOST_UNSETTLED = 500;
const MOST_SEARCHED = 20_000; // files a page; see docs/decisions/012 for what that takes

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

  /**
   * One page, newest first. With a text a page may have fewer than `limit`, and another one behind it all the same.
   * Of what waits or failed only the newest are looked through; while Redis is away, none of what waits is known.
   * @throws Failure INVALID_QUERY; Unavailable
   */
  async function list(ownerId: string, { limit, cursor, text, status = "stored" }: Wanted): Promise<{ files: ListedFile[]; nextCursor: string | null }> {
    const wanted = Math.min(limit, MOST_PER_PAGE);
    const after = cursor === undefined ? undefined : decodeCursor(cursor);
    // What waits first: an upload that is settled meanwhile is then found among the stored.
    const waiting = status === "waiting" || status === "any" ? await unsettled.listWaiting(ownerId, MOST_UNSETTLED).catch(status === "any" ? noneWithoutRedis : rethrow) : [];
    const failed = status === "failed" || status === "any" ? await unsettled.listFailed(ownerId, MOST_UNSETTLED) : [];
    const { rows, end } = status === "stored" || status === "any" ? await listStored(ownerId, wanted + 1, text, after) : { rows: [] };
    const once = new Map<string, ListedFile>();
    for (const file of [...waiting, ...failed]) if (isBehind(file, after) && has(file, text) && (!end || !isBehind(file, end))) once.set(file.id, file);
    for (const row of rows) once.set(row.id, { ...row, status: "stored", reason: null });
    const all = [...once.values()].sort((one, other) => other.eventTime.getTime() - one.eventTime.getTime() || (other.id < one.id ? -1 : 1));
    const files = all.slice(0, wanted);
    const next = all.length > wanted ? files.at(-1)! : end;
    return { files, nextCursor: next ? encodeCursor(next) : null };
  }

  /** @returns `end`: where the search stopped, when there may be more behind it */
  async function listStored(ownerId: string, limit: number, text: string | undefined, after: FilePosition | undefined): Promise<{ rows: FileRow[]; end?: FilePosition | undefined }> {
    if (!text) return { rows: await queries.selectFiles(db, ownerId, limit, after) };
    const rows = await queries.searchFiles(db, ownerId, text, limit, MOST_SEARCHED, after);
    return { rows, end: rows.length < limit ? await queries.selectPosition(db, ownerId, MOST_SEARCHED, after) : undefined };
  }

  return { find, findStored, findFirstTwin, list };
}

function isBehind({ eventTime, id }: FilePosition, after: FilePosition | undefined): boolean {
  if (!after) return true;
  return eventTime.getTime() < after.eventTime.getTime() || (eventTime.getTime() === after.eventTime.getTime() && id < after.id);
}

function has({ name, uploaderId }: ListedFile, text: string | undefined): boolean {
  return !text || [name, uploaderId].some((field) => field?.toLowerCase().includes(text.toLowerCase()));
}

function noneWithoutRedis(error: unknown): [] {
  if (error instanceof Unavailable && error.dependency === "redis") return [];
  throw error;
}

function rethrow(error: unknown): never {
  throw error;
}

function encodeCursor({ eventTime, id }: FilePosition): string {
  return Buffer.from(`${eventTime.getTime()} ${id}`).toString("base64url");
}

function decodeCursor(cursor: string): FilePosition {
  const [time = "", id = ""] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (!/^\d{1,15}$/.test(time) || !isId(id)) throw new Failure("INVALID_QUERY", "cursor: take it from next_cursor of the page before.");
  return { eventTime: new Date(Number(time)), id };
}
