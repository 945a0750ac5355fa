import { setTimeout as wait } from "node:timers/promises";
import type { Readable } from "node:stream";
import type { Clock } from "../../core/clock.ts";
import { Failure } from "../../core/errors.ts";
import { derivedId, isId, newId } from "../../core/ids.ts";
import { Damaged } from "../../objects/object-store.ts";
import type { Inbox } from "../inbox.ts";
import type { PartialUpload } from "./partial-record.ts";
import { incarnationOf, type PartialUploads } from "./partial-uploads.ts";
import { openPieceIntake, type PieceIntake, type PieceLimits } from "./piece-intake.ts";
import { createPieceWriter } from "./piece-writer.ts";
import type { Admit, Finish } from "./resumable-finish.ts";
import { createRunningHashes } from "./running-hashes.ts";
import type { Checksum } from "./tus-headers.ts";

/** How far an upload is. */
export interface Standing {
  offset: number;
  /** Null: not known yet. */
  sizeBytes: number | null;
  /** Complete, and promised: a file, or a part that waits for its final upload. */
  complete: boolean;
  /** What made it so was just done. */
  isNew: boolean;
  /** Until when it is kept if nothing more comes. */
  expiresAt: Date | undefined;
}

export interface ResumableSettings {
  inbox: Inbox;
  partials: PartialUploads;
  finish: Finish["finish"];
  limitBytes: number;
  allowedTypes: readonly string[];
  secret: string;
  expiryMs: number;
  clock: Clock;
  pieceLimits?: PieceLimits;
  /** A request that brought nothing for so long gives way to the next. */
  silentMs?: number;
}

export interface NewUpload {
  ownerId: string;
  sizeBytes: number | null;
  metadata: string | null;
  isPart: boolean;
  idempotencyKey: string | undefined;
}

/** Durable after ten seconds, or two of silence; not so often that a fast upload came in more than one piece. */
const PIECE_LIMITS: PieceLimits = { silenceMs: 2_000, leastBeforeSilenceBytes: 64 * 1024, ageMs: 10_000, leastBytes: 8 * 1024 * 1024, mostAgeMs: 60_000 };
const SILENT_MS = 2_000;
const TURN_WITHIN_MS = 4_500; // whoever comes back after a lost connection is let in within five seconds, or told
const LOOK_EVERY_MS = 100;
const MOST_PIECES = 10_000;

interface Append {
  offset: number;
  length: number | undefined;
  checksum: Checksum | undefined;
  welcome: (leftBytes: number) => void;
  admit: Admit;
}

/** A request that is bringing bytes. */
interface Sender {
  intake?: PieceIntake;
  over: Promise<void>;
  leave(): void;
}

export type Resumable = ReturnType<typeof createResumable>;

/** Uploads that come in as many requests as it takes; src/uploads/resumable/tus-routes.ts speaks the protocol. */
export function createResumable(settings: ResumableSettings) {
  const { inbox, partials, finish, limitBytes, allowedTypes, secret, expiryMs, clock, pieceLimits = PIECE_LIMITS, silentMs = SILENT_MS } = settings;
  const senders = new Map<string, Sender>();
  const hashes = createRunningHashes();
  const pieces = createPieceWriter({ inbox, partials, hashes, allowedTypes });
  let stopping = false;

  /**
   * The same Idempotency-Key gives the same upload again.
   * @throws Failure FILE_TOO_LARGE, EMPTY_FILE, IDEMPOTENCY_KEY_REUSED (it was for another one); Unavailable
   */
  async function create({ ownerId, sizeBytes, metadata, isPart, idempotencyKey }: NewUpload): Promise<PartialUpload> {
    assertSize(sizeBytes);
    const id = newUploadId(ownerId, idempotencyKey);
    const fresh = describe(id, ownerId, sizeBytes, metadata, isPart ? { kind: "partial" } : null);
    const { partial, existed } = await partials.create(fresh).catch(asFailure);
    if (existed) assertSame(partial, fresh);
    return partial;
  }

  /** Every id is a derived one, as its upload may be accepted more than once (see inbox.remove). */
  function newUploadId(ownerId: string, idempotencyKey: string | undefined): string {
    return idempotencyKey === undefined ? derivedId(secret, ownerId, "resumable", newId()) : derivedId(secret, ownerId, idempotencyKey);
  }

  function describe(id: string, ownerId: string, sizeBytes: number | null, metadata: string | null, concat: PartialUpload["concat"]): Omit<PartialUpload, "nonce" | "claim"> {
    return { upload_id: id, owner_id: ownerId, announced_bytes: sizeBytes, size_bytes: sizeBytes, metadata, concat, created_at: clock.now().toISOString(), state: "open" };
  }

  function assertSize(sizeBytes: number | null): void {
    if (sizeBytes !== null && sizeBytes > limitBytes) throw new Failure("FILE_TOO_LARGE");
    if (sizeBytes === 0) throw new Failure("EMPTY_FILE");
  }

  /** The same key may have begun another upload. @throws Failure IDEMPOTENCY_KEY_REUSED, FILE_DAMAGED; Unavailable */
  async function assertUnused({ ownerId, sizeBytes, metadata }: NewUpload, id: string): Promise<void> {
    const known = await partials.find(id).catch(asFailure);
    if (known && known.state !== "ended") assertSame(known, describe(id, ownerId, sizeBytes, metadata, null));
  }

  function assertSame(known: PartialUpload, fresh: Pick<PartialUpload, "announced_bytes" | "metadata" | "concat">): void {
    const isSame = known.announced_bytes === fresh.announced_bytes && known.metadata === fresh.metadata && known.concat?.kind === fresh.concat?.kind;
    if (!isSame) throw new Failure("IDEMPOTENCY_KEY_REUSED");
  }

  /** Remembers an upload that came whole with its creation. What was begun under the same key before is finished by that. */
  async function remember({ ownerId, sizeBytes, metadata }: NewUpload, id: string): Promise<void> {
    const { partial } = await partials.create({ ...describe(id, ownerId, sizeBytes, metadata, null), state: "finished" });
    if (partial.state === "open" && (await partials.change(partial, { state: "finished" }))) await partials.removePieces(partial);
  }

  /** @throws Failure UPLOAD_NOT_FOUND, FILE_DAMAGED; Unavailable */
  async function find(ownerId: string, id: string): Promise<PartialUpload> {
    const partial = isId(id) ? await partials.find(id).catch(asFailure) : undefined;
    if (partial?.owner_id === ownerId && partial.state !== "ended") return partial;
    throw new Failure("UPLOAD_NOT_FOUND");
  }

  /**
   * How far it is, waiting for bytes that a lost connection has brought. If all are here and it is not promised yet, it is
   * after this: "complete" is said of nothing else.
   * @param admit  called before an upload is finished
   * @throws Failure UPLOAD_NOT_FOUND, and what finishing throws; Unavailable
   */
  async function standing(partial: PartialUpload, admit: Admit): Promise<Standing> {
    const sender = senders.get(partial.upload_id);
    if (sender && givesWay(sender)) await leftOrLate(sender, TURN_WITHIN_MS);
    return toEnd(partial, admit);
  }

  async function toEnd(partial: PartialUpload, admit: Admit): Promise<Standing> {
    const { offset, touchedAt, now } = await progressOf(partial);
    if (now.state === "finished") return completed(offset, false);
    const complete = offset === now.size_bytes;
    if (complete && now.concat?.kind !== "partial") {
      const isNew = await finish(now, hashes.take(incarnationOf(now), offset), admit);
      return completed(offset, isNew);
    }
    const expiresAt = new Date((touchedAt ?? new Date(now.created_at)).getTime() + expiryMs);
    return { offset, sizeBytes: now.size_bytes, complete, isNew: false, expiresAt };
  }

  /** The record is read after the pieces: another process that finishes the upload takes these away. */
  async function progressOf(partial: PartialUpload): Promise<{ offset: number; pieces: number; touchedAt: Date | undefined; now: PartialUpload }> {
    const { offset, pieces: count, touchedAt } = await partials.progress(partial).catch(asFailure);
    const now = await partials.find(partial.upload_id).catch(asFailure);
    if (now?.nonce !== partial.nonce || now.state === "ended") throw new Failure("UPLOAD_NOT_FOUND");
    const isAllHere = now.state !== "open" || now.concat?.kind === "final"; // and in the end its pieces are gone
    return isAllHere ? { offset: now.size_bytes!, pieces: 0, touchedAt: undefined, now } : { offset, pieces: count, touchedAt, now };
  }

  function completed(sizeBytes: number, isNew: boolean): Standing {
    return { offset: sizeBytes, sizeBytes, complete: true, isNew, expiresAt: undefined };
  }

  /**
   * Takes bytes in from `offset` on, durable piece by piece, and finishes the upload with the last of them.
   * @param length  of the whole upload, where the client says it only now
   * @param welcome  called before the first byte is read, with how many may come
   * @param admit  called before the upload is finished
   * @throws Failure OFFSET_MISMATCH, UPLOAD_IN_USE, FILE_TOO_LARGE, CHECKSUM_MISMATCH, TOO_MANY_PIECES, and what finishing
   * throws; MALFORMED_REQUEST when the body broke off (what came of it is kept, without a checksum); Unavailable
   */
  async function append(partial: PartialUpload, source: Readable, { offset, length, checksum, welcome, admit }: Append): Promise<Standing> {
    const sender = await takeTurn(partial.upload_id);
    try {
      const { offset: from, pieces: count, now } = await progressOf(partial);
      if (offset !== from) throw new Failure("OFFSET_MISMATCH");
      const upload = length === undefined ? now : await setLength(now, from, length);
      const leftBytes = (upload.size_bytes ?? limitBytes) - from;
      welcome(leftBytes);
      if (count >= MOST_PIECES && leftBytes > 0) throw new Failure("TOO_MANY_PIECES");
      const whyStopped = () => new Failure(stopping ? "SHUTTING_DOWN" : "UPLOAD_IN_USE");
      const intake = (sender.intake = openPieceIntake(source, leftBytes, pieceLimits, whyStopped));
      if (stopping) intake.stop();
      await pieces.write(upload, intake, from, { mostPieces: MOST_PIECES - count, checksum });
      const failure = intake.failure();
      if (failure) throw failure;
      return await toEnd(upload, admit);
    } finally {
      sender.leave();
    }
  }

  /** @throws Failure FILE_TOO_LARGE, EMPTY_FILE, MALFORMED_TUS_HEADER, UPLOAD_IN_USE */
  async function setLength(partial: PartialUpload, offset: number, sizeBytes: number): Promise<PartialUpload> {
    assertSize(sizeBytes);
    if (partial.size_bytes === sizeBytes) return partial;
    if (partial.size_bytes !== null) throw new Failure("MALFORMED_TUS_HEADER", "Upload-Length was said before, and is another.");
    if (offset > sizeBytes) throw new Failure("MALFORMED_TUS_HEADER", "Upload-Length is less than what has come already.");
    const next = await partials.change(partial, { size_bytes: sizeBytes });
    if (!next) throw new Failure("UPLOAD_IN_USE");
    return next;
  }

  /** @throws Failure UPLOAD_COMPLETE */
  async function terminate(partial: PartialUpload): Promise<void> {
    const { upload_id: id } = partial;
    const turn = await takeTurn(id, ({ intake }) => intake?.stop());
    try {
      const now = await partials.find(id).catch(asFailure);
      if (now?.nonce !== partial.nonce || now.state === "ended") return;
      // From exactly what was read: whoever is closing it was first, or finds it ended.
      if (now.state !== "open" || !(await partials.change(now, { state: "ended" }))) throw new Failure("UPLOAD_COMPLETE");
      await partials.removePieces(now);
    } finally {
      turn.leave();
    }
  }

  /**
   * Makes one file of parts, in their order. Asked for again it is the same one, whatever became of the first answer.
   * @throws Failure UPLOAD_NOT_FOUND, PART_INCOMPLETE, FILE_TOO_LARGE, IDEMPOTENCY_KEY_REUSED, and what finishing throws
   */
  async function concatenate({ ownerId, metadata, idempotencyKey }: Omit<NewUpload, "isPart" | "sizeBytes">, parts: string[], admit: Admit): Promise<{ partial: PartialUpload; standing: Standing }> {
    const id = idempotencyKey === undefined ? derivedId(secret, ownerId, "final", metadata ?? "", ...parts) : derivedId(secret, ownerId, idempotencyKey);
    const known = await partials.find(id).catch(asFailure);
    if (known && known.state !== "ended") {
      if (known.concat?.kind !== "final" || known.concat.parts.join() !== parts.join() || known.metadata !== metadata) throw new Failure("IDEMPOTENCY_KEY_REUSED");
      return { partial: known, standing: await toEnd(known, admit) };
    }
    let sizeBytes = 0;
    for (const part of await Promise.all(parts.map((partId) => find(ownerId, partId)))) {
      if (part.concat?.kind !== "partial") throw new Failure("MALFORMED_TUS_HEADER", "Upload-Concat names an upload that is not partial.");
      const { offset, now } = await progressOf(part);
      if (now.state !== "open") throw new Failure("UPLOAD_NOT_FOUND", "A part has become a part of another file.");
      if (offset !== now.size_bytes) throw new Failure("PART_INCOMPLETE");
      sizeBytes += offset;
    }
    assertSize(sizeBytes);
    const { partial } = await partials.create(describe(id, ownerId, sizeBytes, metadata, { kind: "final", parts })).catch(asFailure);
    return { partial, standing: await toEnd(partial, admit) };
  }

  /**
   * One request at a time for each upload, in this process.
   * @param hurry  what is done to another one that has it, now and every so often: it may only be about to read
   * @throws Failure UPLOAD_IN_USE
   */
  async function takeTurn(id: string, hurry: (other: Sender) => void = givesWay): Promise<Sender> {
    const until = performance.now() + TURN_WITHIN_MS;
    for (let other = senders.get(id); other; other = senders.get(id)) {
      const leftMs = until - performance.now();
      if (leftMs <= 0) throw new Failure("UPLOAD_IN_USE");
      hurry(other);
      await leftOrLate(other, Math.min(leftMs, LOOK_EVERY_MS));
    }
    let done = () => {};
    const over = new Promise<void>((resolve) => (done = resolve));
    const sender: Sender = {
      over,
      leave() {
        senders.delete(id);
        done();
      },
    };
    senders.set(id, sender);
    return sender;
  }

  /** Has a request stop that brings nothing any more. @returns whether it is on its way out */
  function givesWay({ intake }: Sender): boolean {
    if (intake && intake.silentMs() >= silentMs) intake.stop();
    return intake?.ending() !== undefined;
  }

  async function leftOrLate(sender: Sender, withinMs: number): Promise<void> {
    const late = new AbortController();
    await Promise.race([sender.over, wait(withinMs, undefined, { signal: late.signal }).catch(() => {})]);
    late.abort();
  }

  /** Requests under way end with what they have brought, so that their clients go on elsewhere. */
  function stop(): void {
    stopping = true;
    for (const { intake } of senders.values()) intake?.stop();
  }

  return { create, newUploadId, assertSize, assertUnused, remember, find, standing, append, terminate, concatenate, stop };
}

/** What the inbox has of it cannot be read: nobody can go on with it. */
function asFailure(error: unknown): never {
  throw error instanceof Damaged ? new Failure("FILE_DAMAGED", "What the inbox has of this upload is damaged. Begin a new one.", { cause: error }) : error;
}
