import { setImmediate as nextTurn } from "node:timers/promises";
import { Unavailable } from "../../core/errors.ts";
import { nonce } from "../../core/ids.ts";
import { Damaged, pagesOf, type ObjectInfo, type ObjectStore } from "../../objects/object-store.ts";
import { BLOBS, PARTIALS, PIECES } from "../inbox-keys.ts";
import { decodeChecked, encodeChecked, PartialUpload, PieceRecord } from "./partial-record.ts";

export interface Piece {
  /** Of the record. */
  key: string;
  /** Of the bytes. */
  blobKey: string;
  start: number;
  sizeBytes: number;
  modifiedAt: Date;
}

export interface Progress {
  pieces: number;
  /** Bytes. */
  offset: number;
  /** When the last of it came; undefined: nothing has. */
  touchedAt: Date | undefined;
}

const OFFSET_DIGITS = 15; // so that keys are in the order of the offsets; the largest safe integer has 16
const BLOB_KEY = /^blobs\/([0-9a-f-]{36})_([0-9a-f]{16})_[0-9a-f]{16}$/;
const PIECE_KEY = /^pieces\/([0-9a-f-]{36})_([0-9a-f]{16})_\d{15}$/;
const LIST_AT_ONCE = 500;
const READ_AT_ONCE = 32;
const MOST_KNOWN = 10_000;
const MOST_TRIES = 5;

export type PartialUploads = ReturnType<typeof createPartialUploads>;

/**
 * Resumable uploads, in the inbox's own store, so on a disk or in a bucket alike. Bytes are taken in by the same steps as any
 * upload's: first a blob of their own, then a small record, created only if there is none, under a key that names the
 * offset they begin at. So of two requests, also at two processes, that begin at one offset, one wins and the other is told;
 * nothing has to be locked, nothing is written over, and where the pieces end is how far the upload is. All else that becomes
 * of an upload is a change of its own record, from exactly what was read.
 */
export function createPartialUploads({ store }: { store: ObjectStore }) {
  const known = new Map<string, Progress & { lastKey: string | undefined }>(); // pieces never change: only what came since is listed

  /** @returns the one that is there already and has not ended, if there is; @throws Damaged; Unavailable */
  async function create(fresh: Omit<PartialUpload, "nonce" | "claim">): Promise<{ partial: PartialUpload; existed: boolean }> {
    const partial: PartialUpload = { ...fresh, nonce: nonce(), claim: null };
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const { stored } = await store.put(PARTIALS + partial.upload_id, encodeChecked(PartialUpload, partial), { ifAbsent: true });
      if (stored) return { partial, existed: false };
      const existing = await find(partial.upload_id);
      if (existing && existing.state !== "ended") return { partial: existing, existed: true };
      if (existing && (await change(existing, partial))) return { partial, existed: false };
    }
    throw new Unavailable("inbox", { cause: new Error("a resumable upload is there and is not, again and again") });
  }

  /** Undefined: there is none. @throws Damaged; Unavailable */
  async function find(id: string): Promise<PartialUpload | undefined> {
    const record = await store.readWhole(PARTIALS + id);
    if (!record) return undefined;
    const partial = decodeChecked(PartialUpload, record);
    if (!partial) throw new Damaged("hash", "the record of a resumable upload cannot be read");
    return partial;
  }

  /** @returns what it is now; undefined: it was not as it had been read any more, and stays as it is */
  async function change(partial: PartialUpload, changes: Partial<PartialUpload>): Promise<PartialUpload | undefined> {
    const next = { ...partial, ...changes };
    const replaced = await store.replaceIf(PARTIALS + partial.upload_id, isExactly(partial), encodeChecked(PartialUpload, next));
    return replaced ? next : undefined;
  }

  async function progress(partial: PartialUpload): Promise<Progress> {
    const incarnation = incarnationOf(partial);
    let { pieces, offset, touchedAt, lastKey } = known.get(incarnation) ?? { pieces: 0, offset: 0, touchedAt: undefined, lastKey: undefined };
    for await (const piece of piecesAfter(partial, lastKey)) {
      if (piece.start !== offset) break; // cannot be; what stands behind a gap is not acknowledged
      pieces++;
      offset += piece.sizeBytes;
      [lastKey, touchedAt] = [piece.key, piece.modifiedAt];
    }
    known.delete(incarnation);
    known.set(incarnation, { pieces, offset, touchedAt, lastKey });
    if (known.size > MOST_KNOWN) known.delete(known.keys().next().value!);
    return { pieces, offset, touchedAt };
  }

  /** All of them, in order. @throws Damaged where one is missing in the middle; Unavailable */
  async function list(partial: PartialUpload): Promise<Piece[]> {
    const pieces: Piece[] = [];
    let offset = 0;
    for await (const piece of piecesAfter(partial, undefined)) {
      if (piece.start !== offset) throw new Damaged("missing", "a piece of a resumable upload is gone");
      pieces.push(piece);
      offset += piece.sizeBytes;
    }
    return pieces;
  }

  /** @throws Damaged when the record of one cannot be read */
  async function* piecesAfter(partial: PartialUpload, after: string | undefined): AsyncGenerator<Piece> {
    const prefix = `${PIECES}${incarnationOf(partial)}_`;
    for await (const page of pagesAfter(prefix, after)) {
      for (let from = 0; from < page.length; from += READ_AT_ONCE) {
        const read = await Promise.all(page.slice(from, from + READ_AT_ONCE).map(async ({ key, modifiedAt }) => {
          const bytes = await store.readWhole(key);
          const record = bytes && decodeChecked(PieceRecord, bytes);
          if (bytes && !record) throw new Damaged("hash", "the record of a piece cannot be read");
          return record && { key, blobKey: record.blob_key, start: Number(key.slice(prefix.length)), sizeBytes: record.size_bytes, modifiedAt };
        }));
        for (const piece of read) if (piece) yield piece;
      }
    }
  }

  async function* pagesAfter(prefix: string, after: string | undefined): AsyncGenerator<ObjectInfo[]> {
    for (let last = after; ;) {
      const page = await store.list(prefix, { limit: LIST_AT_ONCE, ...(last && { after: last }) });
      yield page;
      if (page.length < LIST_AT_ONCE) return;
      last = page.at(-1)!.key;
      await nextTurn();
    }
  }

  /** For bytes that are coming: a name that nothing else has. */
  function newBlobKey(partial: PartialUpload): string {
    return `${BLOBS}${incarnationOf(partial)}_${nonce()}`;
  }

  /** From now on the bytes count. @returns false: others are there already, and stay */
  async function addPiece(partial: PartialUpload, offset: number, blobKey: string, sizeBytes: number): Promise<boolean> {
    const record = encodeChecked(PieceRecord, { blob_key: blobKey, size_bytes: sizeBytes });
    return (await store.put(pieceKeyAt(partial, offset), record, { ifAbsent: true })).stored;
  }

  async function takeBack(partial: PartialUpload, offset: number, blobKey: string): Promise<void> {
    await store.remove([pieceKeyAt(partial, offset), blobKey]);
  }

  function pieceKeyAt(partial: PartialUpload, offset: number): string {
    return `${PIECES}${incarnationOf(partial)}_${String(offset).padStart(OFFSET_DIGITS, "0")}`;
  }

  /** What came of an upload that is finished or ended. @param kept  the blobs that are a manifest's now */
  async function removePieces(partial: PartialUpload, kept: ReadonlySet<string> = new Set()): Promise<void> {
    known.delete(incarnationOf(partial));
    for (const prefix of [BLOBS, PIECES]) {
      const keys: string[] = [];
      for await (const page of pagesAfter(`${prefix}${incarnationOf(partial)}_`, undefined)) keys.push(...page.map(({ key }) => key));
      await store.remove(keys.filter((key) => !kept.has(key)));
    }
  }

  /** Removes the record. @returns false: it was not as it had been read any more */
  async function forget(partial: PartialUpload): Promise<boolean> {
    return store.removeIf(PARTIALS + partial.upload_id, isExactly(partial));
  }

  /** Of a record that cannot be read. */
  async function forgetUnreadable(id: string): Promise<boolean> {
    return store.removeIf(PARTIALS + id, (bytes) => decodeChecked(PartialUpload, bytes) === undefined);
  }

  /** The ids of all there are, a page at a time, with when the record of each was last changed. */
  async function* pages(): AsyncGenerator<{ id: string; modifiedAt: Date }[]> {
    for await (const page of pagesOf(store, PARTIALS)) {
      yield page.map(({ key, modifiedAt }) => ({ id: key.slice(PARTIALS.length), modifiedAt }));
      await nextTurn();
    }
  }

  /** Removes records of pieces, older than `before`, whose upload's own record is gone or another's. */
  async function removeStrayPieces(before: Date): Promise<void> {
    for await (const page of pagesOf(store, PIECES)) {
      const old = page.filter(({ modifiedAt }) => modifiedAt < before);
      const owners = new Map<string, PartialUpload | undefined>();
      for (const { key } of old) {
        const [, id = ""] = PIECE_KEY.exec(key) ?? [];
        if (!owners.has(id)) owners.set(id, await find(id).catch(() => undefined));
      }
      await store.remove(old.flatMap(({ key }) => {
        const [, id = "", own] = PIECE_KEY.exec(key) ?? [];
        return owners.get(id)?.nonce === own ? [] : [key];
      }));
      await nextTurn();
    }
  }

  return { create, find, change, progress, list, newBlobKey, addPiece, takeBack, removePieces, forget, forgetUnreadable, pages, removeStrayPieces };
}

/** Of which upload a blob is; undefined: of none that is resumable. */
export function uploadOfBlob(key: string): { id: string; nonce: string } | undefined {
  const [, id, own] = BLOB_KEY.exec(key) ?? [];
  return id !== undefined && own !== undefined ? { id, nonce: own } : undefined;
}

/** The upload and nothing else that was or will be under its id. */
export function incarnationOf({ upload_id: id, nonce: own }: Pick<PartialUpload, "upload_id" | "nonce">): string {
  return `${id}_${own}`;
}

function isExactly(partial: PartialUpload): (bytes: Uint8Array) => boolean {
  return (bytes) => encodeChecked(PartialUpload, partial).equals(bytes);
}
