import type { Readable } from "node:stream";
import { passGarbage } from "../../core/garbage.ts";
import { Failure } from "../../core/errors.ts";
import { newId, nonce } from "../../core/ids.ts";
import type { Clock } from "../../core/clock.ts";
import { createMeasure, sha256Of, SNIFFED_BYTES, sniffType } from "../../objects/measure.ts";
import { Damaged } from "../../objects/object-store.ts";
import type { Accept, Upload } from "../accept.ts";
import { checkFileType } from "../file-types.ts";
import { BLOBS } from "../inbox-keys.ts";
import type { Inbox, Received } from "../inbox.ts";
import type { PartialUpload } from "./partial-record.ts";
import type { PartialUploads, Piece } from "./partial-uploads.ts";
import { readUploaderId } from "../request-fields.ts";
import { readMetadata } from "./tus-headers.ts";

const MOST_TRIES = 5;
const NOT_FOR_GOOD = new Set(["UNAVAILABLE", "SHUTTING_DOWN", "OUT_OF_SPACE", "TOO_BUSY", "BACKLOG_FULL"]);

export interface FinishSettings {
  inbox: Inbox;
  partials: PartialUploads;
  accept: Accept;
  smallObjectBytes: number;
  allowedTypes: readonly string[];
  clock: Clock;
}

/** Asks for room, for so many bytes, and throws where there is none. */
export type Admit = (sizeBytes: number) => void;

export type Finish = ReturnType<typeof createFinish>;

/** Makes a file of a resumable upload whose bytes are all here: its pieces become what any other upload is by then. */
export function createFinish({ inbox, partials, accept, smallObjectBytes, allowedTypes, clock }: FinishSettings) {
  const underWay = new Map<string, Promise<boolean>>();

  /**
   * Once this resolves the upload is promised. It may be asked for again and again, also at other processes.
   * @param sha256  of the bytes as they came, hexadecimal, where that is known
   * @param admit  called where bytes have to be gathered, which takes memory and room
   * @returns whether this is what promised it
   * @throws Failure: the upload is gone then, unless it is worth trying again; Unavailable: it is
   */
  function finish(partial: PartialUpload, sha256: string | undefined, admit: Admit): Promise<boolean> {
    const known = underWay.get(partial.upload_id);
    if (known) return known.then(() => false);
    const finishing = finishNow(partial, sha256, admit).finally(() => underWay.delete(partial.upload_id));
    underWay.set(partial.upload_id, finishing);
    return finishing;
  }

  async function finishNow(partial: PartialUpload, sha256: string | undefined, admit: Admit): Promise<boolean> {
    const { claimed, isFirst } = await claim(partial);
    if (!claimed) return false;
    let pieces: Piece[] = [];
    try {
      const found = await piecesOf(claimed);
      const { parts } = found;
      pieces = found.pieces;
      const received = await gather(claimed, pieces, { sha256, admit });
      await accept.accept(uploadOf(claimed, received));
      await tidyUp(claimed, parts, received.lent ? received.blobKey : null);
      return true;
    } catch (error) {
      const failure = error instanceof Damaged
        ? new Failure("FILE_DAMAGED", "The bytes were damaged in the inbox before the last of them came. Send the file again.", { cause: error })
        : error;
      if (!(failure instanceof Failure) || NOT_FOR_GOOD.has(failure.code)) throw failure;
      if (await isPromised(claimed, isFirst, error, pieces)) return false;
      // Another process may be just behind us with the same upload: what it needs goes when a sweeper finds no manifest for it.
      if ((await partials.change(claimed, { state: "ended" })) && isFirst) await partials.removePieces(claimed);
      throw failure;
    }
  }

  /** @returns `claimed` undefined: it is finished already; @throws Failure UPLOAD_NOT_FOUND, UPLOAD_IN_USE */
  async function claim(partial: PartialUpload): Promise<{ claimed: PartialUpload | undefined; isFirst: boolean }> {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const now = await partials.find(partial.upload_id);
      if (now?.nonce !== partial.nonce || now.state === "ended") throw new Failure("UPLOAD_NOT_FOUND");
      if (now.state === "finished") return { claimed: undefined, isFirst: false };
      const claimed = await partials.change(now, { state: "closing", claim: nonce() });
      if (claimed) return { claimed, isFirst: now.state === "open" };
    }
    throw new Failure("UPLOAD_IN_USE");
  }

  /** Whoever claimed it after us, for the same bytes, does this in our place. */
  async function tidyUp(claimed: PartialUpload, parts: PartialUpload[], lentKey: string | null): Promise<void> {
    // The parts first: were this process to die in between, nobody would come back for them once the upload is finished.
    for (const part of parts) await partials.change(part, { state: "finished" });
    if (!(await partials.change(claimed, { state: "finished" }))) return;
    for (const part of parts) await partials.removePieces(part); // who asks for it again finds it complete
    // A first try, under other settings, may have made another blob of it a manifest's.
    const named = (await inbox.findManifest(claimed.upload_id))?.blob_key;
    await partials.removePieces(claimed, new Set([named, lentKey].filter((key) => typeof key === "string")));
  }

  /**
   * By another process, or by one that died before it could say so. Then its pieces may be gone: settled. Where other bytes are
   * promised under the id, which may be that of an Idempotency-Key, these are not.
   */
  async function isPromised(claimed: PartialUpload, isFirst: boolean, error: unknown, pieces: Piece[]): Promise<boolean> {
    const now = await partials.find(claimed.upload_id);
    if (now?.nonce === claimed.nonce && now.state === "finished") return true;
    if (isFirst || (error instanceof Failure && error.code === "IDEMPOTENCY_KEY_REUSED")) return false;
    const promised = await accept.promisedHash(claimed.owner_id, claimed.upload_id);
    if (promised === undefined || (!(error instanceof Damaged) && promised !== (await hashOf(pieces)))) return false;
    await tidyUp(claimed, await partsLeft(claimed), null);
    return true;
  }

  /** The parts of what is promised already that can still be found: whoever promised it may have died before they were done, too. */
  async function partsLeft({ concat }: PartialUpload): Promise<PartialUpload[]> {
    if (concat?.kind !== "final") return [];
    const found = await Promise.all(concat.parts.map((id) => partials.find(id).catch((error: unknown) => {
      if (error instanceof Damaged) return undefined;
      throw error;
    })));
    return found.filter((part) => part !== undefined);
  }

  /** @throws Damaged when they are not all there */
  async function piecesOf(partial: PartialUpload): Promise<{ pieces: Piece[]; parts: PartialUpload[] }> {
    const parts: PartialUpload[] = [];
    const pieces: Piece[] = [];
    if (partial.concat?.kind === "final") {
      for (const id of partial.concat.parts) {
        const part = await partials.find(id);
        if (!part) throw new Damaged("missing", "a part of a final upload is gone");
        parts.push(part);
        pieces.push(...(await partials.list(part)));
      }
    } else {
      pieces.push(...(await partials.list(partial)));
    }
    if (sizeOf(pieces) !== partial.size_bytes) throw new Damaged("size", "the pieces of a resumable upload are not all there");
    return { pieces, parts };
  }

  /** @throws Failure FILE_TYPE_NOT_ALLOWED, and what admit throws; Damaged; Unavailable */
  async function gather(partial: PartialUpload, pieces: Piece[], { sha256, admit }: { sha256: string | undefined; admit: Admit }): Promise<Received> {
    const sizeBytes = sizeOf(pieces);
    const { declaredType } = readMetadata(partial.metadata);
    const head = await read(pieces, Math.min(SNIFFED_BYTES, sizeBytes));
    const sniffedType = await sniffType(head);
    checkFileType(allowedTypes, sniffedType, declaredType, head);
    const found = { sizeBytes, sniffedType, bytes: undefined };
    const only = pieces.length === 1 && !partial.concat ? pieces[0] : undefined; // a part's blob is its own
    if (sizeBytes > smallObjectBytes && only) return { ...found, blobKey: only.blobKey, lent: true, sha256: sha256 ?? (await hashOf(pieces)) };
    admit(sizeBytes);
    if (sizeBytes <= smallObjectBytes) {
      const bytes = await read(pieces, sizeBytes);
      return { ...found, bytes, blobKey: null, sha256: assertSame(sha256Of(bytes), sha256) };
    }
    const blobKey = `${BLOBS}${newId()}-${nonce()}`;
    const measure = createMeasure();
    await inbox.store.put(blobKey, measured(pieces, measure));
    const received = { ...found, blobKey, blobAt: clock.now(), sha256: measure.sha256() };
    try {
      assertSame(received.sha256, sha256);
    } catch (error) {
      await inbox.discard(received);
      throw error;
    }
    return received;
  }

  async function hashOf(pieces: Piece[]): Promise<string> {
    const measure = createMeasure();
    for await (const chunk of measured(pieces, measure)) void chunk;
    return measure.sha256();
  }

  async function* measured(pieces: Piece[], measure: { update(chunk: Uint8Array): void }): AsyncGenerator<Uint8Array> {
    for (const piece of pieces) {
      for await (const chunk of await open(piece)) {
        measure.update(chunk);
        passGarbage(chunk.length);
        yield chunk;
      }
    }
  }

  async function read(pieces: Piece[], mostBytes: number): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let left = mostBytes;
    for (const piece of pieces) {
      if (left === 0) break;
      const part = (await (await open(piece, left)).toArray()) as Uint8Array[];
      for (const chunk of part) {
        chunks.push(chunk);
        left -= chunk.length;
      }
    }
    return Buffer.concat(chunks);
  }

  async function open({ blobKey, sizeBytes }: Piece, mostBytes = sizeBytes): Promise<Readable> {
    const found = await inbox.store.read(blobKey, { start: 0, end: Math.min(sizeBytes, mostBytes) - 1 });
    if (found?.sizeBytes !== sizeBytes) throw new Damaged("missing", "a piece of a resumable upload is gone");
    return found.stream;
  }

  return { finish };
}

/** As every way in hands it over. @throws Failure INVALID_UPLOADER_ID, MALFORMED_TUS_HEADER */
export function uploadOf({ upload_id: uploadId, owner_id: accountId, metadata }: Pick<PartialUpload, "upload_id" | "owner_id" | "metadata">, received: Received): Upload {
  const { fileName = `upload-${uploadId}`, declaredType, uploaderId } = readMetadata(metadata);
  return { accountId, received, fileName, declaredType, uploaderId: readUploaderId(uploaderId), idempotencyKey: undefined, uploadId };
}

function sizeOf(pieces: Piece[]): number {
  return pieces.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** @throws Damaged: what the inbox gives is not what came */
function assertSame(sha256: string, asItCame: string | undefined): string {
  if (asItCame !== undefined && asItCame !== sha256) throw new Damaged("hash", "the pieces of a resumable upload are not what came");
  return sha256;
}
