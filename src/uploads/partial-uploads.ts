import { crc32 } from "node:zlib";
import { z } from "zod";
import { nonce } from "../core/ids.ts";
import { Damaged, pagesOf, type ObjectInfo, type ObjectStore } from "../objects/object-store.ts";
import { BLOBS, PARTIALS } from "./inbox-keys.ts";

/** A resumable upload from its creation on: what was said of it then. What came of it is told by its pieces. */
const Partial = z.object({
  upload_id: z.uuid(),
  owner_id: z.uuid(),
  /** Tells apart what is created under the same id after the first was terminated; part of the pieces' keys. */
  nonce: z.string().regex(/^[0-9a-f]{16}$/),
  /** Null: the client says it later. */
  size_bytes: z.number().int().nonnegative().nullable(),
  /** As the client sent it; HEAD gives it back. */
  metadata: z.string().nullable(),
  /** A part of a final upload becomes no file by itself; a final upload names its parts. */
  concat: z.union([z.object({ kind: z.literal("partial") }), z.object({ kind: z.literal("final"), parts: z.array(z.uuid()).min(1) })]).nullable(),
  created_at: z.iso.datetime(),
  /**
   * Who makes a file of it, from the moment all bytes are here on: from then on its pieces may be a manifest's blob, so nobody
   * else removes them. Whoever tries after a failure puts itself in the place of the last one. Null: nobody yet.
   */
  claim: z.string().nullable(),
  /** It is a file now, or waits to be one; kept for those who ask how far it is. */
  finished: z.boolean(),
});

export type Partial = z.infer<typeof Partial>;

/** Bytes of an upload that came in one go, durable and never changed: from `start` on. */
export interface Piece {
  key: string;
  start: number;
  sizeBytes: number;
  modifiedAt: Date;
}

interface Known {
  nonce: string;
  pieces: number;
  offset: number;
  lastKey: string | undefined;
  touchedAt: Date | undefined;
}

const OFFSET_DIGITS = 15; // so that keys are in the order of the offsets; the largest safe integer has 16
const PIECE_KEY = /^blobs\/([0-9a-f-]{36})_([0-9a-f]{16})_(\d{15})$/;
const LIST_AT_ONCE = 200; // on a disk, listing reads small pieces
const MOST_KNOWN = 10_000;
const SUM_CHARACTERS = 8;

export type PartialUploads = ReturnType<typeof createPartialUploads>;

/**
 * Resumable uploads that are not complete, in the inbox's own store, so on a disk or in a bucket alike. A record says what the
 * upload is and does not change while bytes come. Each piece of them is an object whose key names the offset it begins at,
 * created only if there is none: so of two requests, also at two processes, that begin at one offset, one wins and the other
 * is told; nothing has to be locked, and where the pieces end is how far the upload is.
 */
export function createPartialUploads({ store }: { store: ObjectStore }) {
  const known = new Map<string, Known>(); // pieces never change, so only what came since has to be listed

  /** @returns the one that is there already, if there is; @throws Unavailable */
  async function create(fresh: Omit<Partial, "nonce" | "claim">): Promise<{ partial: Partial; existed: boolean }> {
    const partial: Partial = { ...fresh, nonce: nonce(), claim: null };
    const { stored } = await store.put(PARTIALS + partial.upload_id, encode(partial), { ifAbsent: true });
    const existing = stored ? undefined : await find(partial.upload_id);
    return existing ? { partial: existing, existed: true } : { partial, existed: false };
  }

  /** Undefined: there is none. @throws Damaged; Unavailable */
  async function find(id: string): Promise<Partial | undefined> {
    const record = await store.readWhole(PARTIALS + id);
    if (!record) return undefined;
    const partial = decodePartial(record);
    if (!partial) throw new Damaged("hash", "the record of a resumable upload cannot be read");
    return partial;
  }

  /** @returns undefined: it is not as it was read any more */
  async function change(partial: Partial, changes: { size_bytes?: number; claim?: string; finished?: boolean }): Promise<Partial | undefined> {
    const next = { ...partial, ...changes };
    return (await store.replaceIf(PARTIALS + partial.upload_id, isExactly(partial), encode(next))) ? next : undefined;
  }

  /** How far it is, and when the last of it came (undefined: nothing has). */
  async function progress({ upload_id: id, nonce: own }: Partial): Promise<Known> {
    const before = known.get(id);
    let { pieces, offset, lastKey, touchedAt }: Omit<Known, "nonce"> = before?.nonce === own ? before : { pieces: 0, offset: 0, lastKey: undefined, touchedAt: undefined };
    for await (const piece of piecesAfter(id, own, lastKey)) {
      if (piece.start !== offset) break; // cannot be; what stands behind a gap is not acknowledged
      pieces++;
      offset += piece.sizeBytes;
      [lastKey, touchedAt] = [piece.key, piece.modifiedAt];
    }
    const now: Known = { nonce: own, pieces, offset, lastKey, touchedAt };
    known.delete(id);
    known.set(id, now);
    if (known.size > MOST_KNOWN) known.delete(known.keys().next().value!);
    return now;
  }

  /** All of them, in order. @throws Damaged where one is missing in the middle; Unavailable */
  async function list({ upload_id: id, nonce: own }: Partial): Promise<Piece[]> {
    const pieces: Piece[] = [];
    let offset = 0;
    for await (const piece of piecesAfter(id, own, undefined)) {
      if (piece.start !== offset) throw new Damaged("missing", "a piece of a resumable upload is gone");
      pieces.push(piece);
      offset += piece.sizeBytes;
    }
    return pieces;
  }

  async function* piecesAfter(id: string, own: string, after: string | undefined): AsyncGenerator<Piece> {
    const prefix = `${BLOBS}${id}_${own}_`;
    for (let last = after; ;) {
      const page: ObjectInfo[] = await store.list(prefix, { limit: LIST_AT_ONCE, ...(last && { after: last }) });
      for (const { key, sizeBytes, modifiedAt } of page) yield { key, start: Number(key.slice(prefix.length)), sizeBytes, modifiedAt };
      if (page.length < LIST_AT_ONCE) return;
      last = page.at(-1)!.key;
    }
  }

  /** Where the next piece goes. */
  function keyAt({ upload_id: id, nonce: own }: Partial, offset: number): string {
    return `${BLOBS}${id}_${own}_${String(offset).padStart(OFFSET_DIGITS, "0")}`;
  }

  /**
   * Ends an upload that is no file's. The record first: what has none is nobody's, and swept.
   * @returns false: it is not as it was read any more
   */
  async function remove(partial: Partial): Promise<boolean> {
    const removed = await forget(partial);
    if (removed) await removePieces(partial);
    return removed;
  }

  /** Removes the record alone. @returns false: it is not as it was read any more */
  async function forget(partial: Partial): Promise<boolean> {
    known.delete(partial.upload_id);
    return store.removeIf(PARTIALS + partial.upload_id, isExactly(partial));
  }

  /** Of a record that cannot be read. */
  async function forgetUnreadable(id: string): Promise<boolean> {
    return store.removeIf(PARTIALS + id, (bytes) => decodePartial(bytes) === undefined);
  }

  async function removePieces(partial: Partial): Promise<void> {
    known.delete(partial.upload_id);
    const keys: string[] = [];
    for await (const { key } of piecesAfter(partial.upload_id, partial.nonce, undefined)) keys.push(key);
    await store.remove(keys);
  }

  /** All there are, a page at a time, with when each was last written. */
  async function* pages(): AsyncGenerator<{ id: string; modifiedAt: Date }[]> {
    for await (const page of pagesOf(store, PARTIALS)) {
      yield page.map(({ key, modifiedAt }) => ({ id: key.slice(PARTIALS.length), modifiedAt }));
    }
  }

  return { create, find, change, progress, list, keyAt, remove, forget, forgetUnreadable, removePieces, pages };
}

/** Whose piece it is; undefined: it is no piece of a resumable upload. */
export function uploadOfPiece(key: string): { id: string; nonce: string } | undefined {
  const [, id, own] = PIECE_KEY.exec(key) ?? [];
  return id !== undefined && own !== undefined ? { id, nonce: own } : undefined;
}

/** CRC-32 in hexadecimal, then JSON: with one wrong bit it would be another owner's. */
function encode(partial: Partial): Buffer {
  const text = JSON.stringify(Partial.parse(partial)); // in one order of its fields, as records are compared
  return Buffer.from(crc32(text).toString(16).padStart(SUM_CHARACTERS, "0") + text);
}

/** Undefined: it is damaged. */
export function decodePartial(record: Uint8Array): Partial | undefined {
  const text = Buffer.from(record).toString();
  const json = text.slice(SUM_CHARACTERS);
  if (Number.parseInt(text.slice(0, SUM_CHARACTERS), 16) !== crc32(json)) return undefined;
  return Partial.safeParse(JSON.parse(json)).data;
}

function isExactly(partial: Partial): (bytes: Uint8Array) => boolean {
  return (bytes) => encode(partial).equals(bytes);
}
