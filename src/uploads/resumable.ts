import { setTimeout as wait } from "node:timers/promises";
import type { Readable } from "node:stream";
import type { Clock } from "../core/clock.ts";
import { Failure } from "../core/errors.ts";
import { derivedId, isId, newId } from "../core/ids.ts";
import type { Inbox } from "./inbox.ts";
import type { Partial, PartialUploads } from "./partial-uploads.ts";
import { openPieceIntake, type PieceIntake, type PieceLimits } from "./piece-intake.ts";
import { createPieceWriter } from "./piece-writer.ts";
import type { Finish } from "./resumable-finish.ts";
import { createRunningHashes } from "./running-hashes.ts";
import type { Checksum } from "./tus-headers.ts";

/** How far an upload is. */
export interface Standing {
  offset: number;
  /** Null: not known yet. */
  sizeBytes: number | null;
  /** Complete, and promised: a file, or a part that waits for its final upload. */
  complete: boolean;
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
const PIECE_LIMITS: PieceLimits = { silenceMs: 2_000, ageMs: 10_000, leastBytes: 8 * 1024 * 1024, mostAgeMs: 60_000 };
const SILENT_MS = 2_000;
const TURN_WITHIN_MS = 4_500; // whoever comes back after a lost connection is let in within five seconds, or told
const LOOK_EVERY_MS = 100;
const MOST_PIECES = 10_000;

/** Asks for room, for so many bytes, and throws where there is none. */
export type Admit = (sizeBytes: number) => void;

/** A request that is bringing bytes. */
interface Sender {
  intake?: PieceIntake;
  over: Promise<void>;
  leave(): void;
}

export type Resumable = ReturnType<typeof createResumable>;

/** Uploads that come in as many requests as it takes; src/uploads/tus-routes.ts speaks the protocol. */
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
  async function create({ ownerId, sizeBytes, metadata, isPart, idempotencyKey }: NewUpload): Promise<Partial> {
    assertSize(sizeBytes);
    const id = newUploadId(ownerId, idempotencyKey);
    const { partial, existed } = await partials.create(describe(id, ownerId, sizeBytes, metadata, isPart ? { kind: "partial" } : null));
    if (existed && (partial.size_bytes !== sizeBytes || partial.metadata !== metadata)) throw new Failure("IDEMPOTENCY_KEY_REUSED");
    return partial;
  }

  /** Every id is a derived one, as its upload may be accepted more than once (see inbox.remove). */
  function newUploadId(ownerId: string, idempotencyKey: string | undefined): string {
    return idempotencyKey === undefined ? derivedId(secret, ownerId, "resumable", newId()) : derivedId(secret, ownerId, idempotencyKey);
  }

  function describe(id: string, ownerId: string, sizeBytes: number | null, metadata: string | null, concat: Partial["concat"]): Omit<Partial, "nonce" | "claim"> {
    return { upload_id: id, owner_id: ownerId, size_bytes: sizeBytes, metadata, concat, created_at: clock.now().toISOString(), finished: false };
  }

  function assertSize(sizeBytes: number | null): void {
    if (sizeBytes !== null && sizeBytes > limitBytes) throw new Failure("FILE_TOO_LARGE");
    if (sizeBytes === 0) throw new Failure("EMPTY_FILE");
  }

  /** Remembers an upload that came whole with its creation. */
  async function remember({ ownerId, sizeBytes, metadata }: NewUpload, id: string): Promise<void> {
    await partials.create({ ...describe(id, ownerId, sizeBytes, metadata, null), finished: true });
  }

  /** @throws Failure UPLOAD_NOT_FOUND; Damaged; Unavailable */
  async function find(ownerId: string, id: string): Promise<Partial> {
    const partial = isId(id) ? await partials.find(id) : undefined;
    if (partial?.owner_id === ownerId) return partial;
    throw new Failure("UPLOAD_NOT_FOUND");
  }

  /**
   * How far it is, waiting for bytes that a lost connection has brought. If all are here and it is not promised yet, it is
   * after this: "complete" is said of nothing else.
   * @param admit  called before an upload is finished
   * @throws Failure UPLOAD_NOT_FOUND, and what finishing throws; Unavailable
   */
  async function standing(partial: Partial, admit: Admit): Promise<Standing> {
    const sender = senders.get(partial.upload_id);
    if (sender && givesWay(sender)) await leftOrLate(sender, TURN_WITHIN_MS);
    return toEnd(partial, admit);
  }

  async function toEnd(partial: Partial, admit?: Admit): Promise<Standing> {
    const { offset, touchedAt, finished } = await progressOf(partial);
    if (finished) return completed(offset);
    const complete = offset === partial.size_bytes;
    if (complete && partial.concat?.kind !== "partial") {
      admit?.(offset);
      await finish(partial, hashes.take(partial.upload_id, offset));
      return completed(offset);
    }
    const expiresAt = new Date((touchedAt ?? new Date(partial.created_at)).getTime() + expiryMs);
    return { offset, sizeBytes: partial.size_bytes, complete, expiresAt };
  }

  /** The record is read after the pieces: another process that finishes the upload takes these away. */
  async function progressOf(partial: Partial): Promise<{ offset: number; pieces: number; touchedAt: Date | undefined; finished: boolean }> {
    const { offset, pieces: count, touchedAt } = await partials.progress(partial);
    const now = await partials.find(partial.upload_id);
    if (now?.nonce !== partial.nonce) throw new Failure("UPLOAD_NOT_FOUND");
    const isAllHere = now.finished || now.claim !== null || now.concat?.kind === "final"; // and in the end its pieces are gone
    if (isAllHere) return { offset: now.size_bytes!, pieces: 0, touchedAt: undefined, finished: now.finished };
    return { offset, pieces: count, touchedAt, finished: false };
  }

  function completed(sizeBytes: number): Standing {
    return { offset: sizeBytes, sizeBytes, complete: true, expiresAt: undefined };
  }

  /**
   * Takes bytes in from `offset` on, durable piece by piece, and finishes the upload with the last of them.
   * @param admit  called before the first byte is read
   * @throws Failure OFFSET_MISMATCH, UPLOAD_IN_USE, FILE_TOO_LARGE, CHECKSUM_MISMATCH, TOO_MANY_PIECES, and what finishing
   * throws; MALFORMED_REQUEST when the body broke off (what came of it is kept, without a checksum); Unavailable
   */
  async function append(partial: Partial, source: Readable, { offset, checksum, admit }: { offset: number; checksum?: Checksum | undefined; admit: Admit }): Promise<Standing> {
    const sender = await takeTurn(partial.upload_id);
    try {
      const { offset: from, pieces: count } = await progressOf(partial);
      if (offset !== from) throw new Failure("OFFSET_MISMATCH");
      if (count >= MOST_PIECES) throw new Failure("TOO_MANY_PIECES");
      const leftBytes = (partial.size_bytes ?? limitBytes) - from;
      admit(leftBytes);
      const intake = (sender.intake = openPieceIntake(source, leftBytes, pieceLimits));
      if (stopping) intake.stop();
      await pieces.write(partial, intake, from, checksum);
      const ending = intake.ending();
      if (ending === "broken") throw new Failure("MALFORMED_REQUEST", "The connection closed before the last byte.");
      if (ending === "overlong") throw new Failure("FILE_TOO_LARGE", "These are more bytes than the upload has left to come.");
      if (ending === "stopped") throw new Failure(stopping ? "SHUTTING_DOWN" : "UPLOAD_IN_USE");
      return await toEnd(partial);
    } finally {
      sender.leave();
    }
  }

  /** @throws Failure UPLOAD_COMPLETE */
  async function terminate(partial: Partial): Promise<void> {
    const { upload_id: id } = partial;
    const sender = senders.get(id);
    sender?.intake?.stop();
    const turn = await takeTurn(id);
    try {
      const now = await partials.find(id);
      if (!now) return;
      if (now.finished || now.claim !== null || !(await partials.remove(now))) throw new Failure("UPLOAD_COMPLETE");
    } finally {
      turn.leave();
    }
  }

  /** The client knows by now how long it is. @throws Failure FILE_TOO_LARGE, EMPTY_FILE, MALFORMED_TUS_HEADER */
  async function setLength(partial: Partial, sizeBytes: number): Promise<Partial> {
    assertSize(sizeBytes);
    if (partial.size_bytes === sizeBytes) return partial;
    if (partial.size_bytes !== null) throw new Failure("MALFORMED_TUS_HEADER", "Upload-Length was said before, and is another.");
    const { offset } = await partials.progress(partial);
    if (offset > sizeBytes) throw new Failure("MALFORMED_TUS_HEADER", "Upload-Length is less than what has come already.");
    const next = await partials.change(partial, { size_bytes: sizeBytes });
    if (!next) throw new Failure("UPLOAD_IN_USE");
    return next;
  }

  /**
   * Makes one file of parts, in their order. Asked for again it is the same one, whatever became of the first answer.
   * @throws Failure UPLOAD_NOT_FOUND, PART_INCOMPLETE, FILE_TOO_LARGE, IDEMPOTENCY_KEY_REUSED, and what finishing throws
   */
  async function concatenate({ ownerId, metadata, idempotencyKey }: Omit<NewUpload, "isPart" | "sizeBytes">, parts: string[], admit: Admit): Promise<Partial> {
    const id = idempotencyKey === undefined ? derivedId(secret, ownerId, "final", ...parts) : derivedId(secret, ownerId, idempotencyKey);
    const known = await partials.find(id);
    if (known && (known.concat?.kind !== "final" || known.concat.parts.join() !== parts.join())) throw new Failure("IDEMPOTENCY_KEY_REUSED");
    if (known) {
      await toEnd(known, admit);
      return known;
    }
    let sizeBytes = 0;
    for (const part of await Promise.all(parts.map((partId) => find(ownerId, partId)))) {
      if (part.concat?.kind !== "partial") throw new Failure("MALFORMED_TUS_HEADER", "Upload-Concat names an upload that is not partial.");
      const { offset, finished } = await progressOf(part);
      if (finished) throw new Failure("UPLOAD_NOT_FOUND", "A part has become a part of another file.");
      if (offset !== part.size_bytes) throw new Failure("PART_INCOMPLETE");
      sizeBytes += offset;
    }
    assertSize(sizeBytes);
    const { partial } = await partials.create(describe(id, ownerId, sizeBytes, metadata, { kind: "final", parts }));
    await toEnd(partial, admit);
    return partial;
  }

  /** One request at a time for each upload, in this process. @throws Failure UPLOAD_IN_USE */
  async function takeTurn(id: string): Promise<Sender> {
    const until = performance.now() + TURN_WITHIN_MS;
    for (let other = senders.get(id); other; other = senders.get(id)) {
      const leftMs = until - performance.now();
      if (leftMs <= 0) throw new Failure("UPLOAD_IN_USE");
      givesWay(other);
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

  return { create, newUploadId, assertSize, remember, find, standing, append, terminate, setLength, concatenate, stop };
}
