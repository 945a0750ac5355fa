import { Failure } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import { isId } from "../../core/ids.ts";
import type { Log } from "../../core/log.ts";
import type { RequestDb } from "../../db/pool.ts";
import type { Enqueue } from "../enqueue.ts";
import { createInboxGlance } from "../inbox-glance.ts";
import { unreadable, type Inbox, type Received } from "../inbox.ts";
import { Manifest, REPLACED } from "../messages.ts";
import * as queries from "./dead-letter-queries.ts";

/** `retriable`: the inbox can still read what it kept of it, and has its bytes; not that they are the right ones. Null: the inbox does not say right now. */
export interface ListedDeadLetter extends queries.DeadLetter {
  retriable: boolean | null;
}

export interface DeadLettersSettings {
  db: RequestDb;
  inbox: Inbox;
  enqueue: Enqueue;
  /** Who writes the ledger row of what is discarded: this process. */
  worker: string;
  log: Log;
  /** How long a person waits for the inbox. */
  inboxBudgetMs?: number;
}

const MOST_PER_PAGE = 500;
const BATCH = 50; // letters retried in one transaction, their inbox records read side by side
const MOST_BATCHES = 200; // a request's share: whoever has more dead letters asks again
/** Troubles that good bytes end. They also end whatever it was where no bytes are left, as when a discarding broke off half-way. */
const HEALED_BY_BYTES = new Set(["INBOX_BYTES_DAMAGED", "INBOX_BLOB_MISSING", "INBOX_ENTRY_MISSING", "INBOX_RECORD_DAMAGED"]);

export type DeadLetters = ReturnType<typeof createDeadLetters>;

/**
 * Uploads that were given up. They stay until somebody decides: to try again, to hand the same bytes in again, or to throw
 * them away. Each decision holds the letter's row while it looks into the inbox, so of two at once only the first is carried
 * out, and the other one finds no letter any more. It looks once before, for an inbox that is silent: others wait for the row.
 */
export function createDeadLetters({ db, inbox, enqueue, worker, log, inboxBudgetMs }: DeadLettersSettings) {
  const glance = createInboxGlance({ inbox, budgetMs: inboxBudgetMs });

  /** One page, newest first. @param cursor  of the page before; @throws Failure INVALID_QUERY, Unavailable */
  async function list(ownerId: string, limit: number, cursor?: string): Promise<{ deadLetters: ListedDeadLetter[]; nextCursor: string | null }> {
    const wanted = Math.min(limit, MOST_PER_PAGE);
    const rows = await queries.selectDeadLetters(db, ownerId, wanted + 1, cursor === undefined ? undefined : decodeCursor(cursor));
    const page = rows.slice(0, wanted);
    return { deadLetters: await listed(ownerId, page), nextCursor: rows.length > wanted ? encodeCursor(page.at(-1)!) : null };
  }

  /** @throws Failure DEAD_LETTER_NOT_FOUND, Unavailable */
  async function find(ownerId: string, id: string): Promise<ListedDeadLetter> {
    const letter = isId(id) ? await queries.selectDeadLetter(db, ownerId, id) : undefined;
    if (!letter) throw new Failure("DEAD_LETTER_NOT_FOUND");
    return (await listed(ownerId, [letter]))[0]!;
  }

  async function listed(ownerId: string, letters: queries.DeadLetter[]): Promise<ListedDeadLetter[]> {
    const retriable = await glance.retriable(ownerId, letters.map(({ uploadId }) => uploadId));
    return letters.map((letter, i) => ({ ...letter, retriable: retriable[i]! }));
  }

  /**
   * Queues the upload again, with all its attempts before it.
   * @returns the stream's entry id; null while Redis is away: the reconciler queues it then
   * @throws Failure DEAD_LETTER_NOT_FOUND, DEAD_LETTER_WITHOUT_BYTES; Unavailable
   */
  async function retry(ownerId: string, id: string): Promise<string | null> {
    if (!isId(id)) throw new Failure("DEAD_LETTER_NOT_FOUND");
    const { locked, raised } = await raise(ownerId, [id]);
    if (locked === 0) throw new Failure("DEAD_LETTER_NOT_FOUND");
    if (raised.length === 0) throw new Failure("DEAD_LETTER_WITHOUT_BYTES");
    const streamId = await enqueue(raised[0]!);
    log.info({ uploadId: id, streamId }, "dead letter retried");
    return streamId;
  }

  /**
   * Retries all that there are now, newest first, at most ten thousand. One that fails meanwhile again is not among them.
   * @returns how many were queued, and how many could not be, as the inbox has lost their bytes; @throws Unavailable
   */
  async function retryAll(ownerId: string): Promise<{ retried: number; withoutBytes: number }> {
    const done = { retried: 0, withoutBytes: 0 };
    let after: queries.DeadLetterPosition | undefined;
    for (let batch = 0; batch < MOST_BATCHES; batch++) {
      const page = await queries.selectDeadLetters(db, ownerId, BATCH, after);
      if (page.length === 0) break;
      after = page.at(-1)!;
      const { locked, raised } = await raise(ownerId, page.map(({ uploadId }) => uploadId));
      await Promise.all(raised.map(enqueue));
      done.retried += raised.length;
      done.withoutBytes += locked - raised.length;
    }
    if (done.retried > 0) log.info(done, "dead letters retried");
    return done;
  }

  /** Takes those off the dead letters whose bytes are there: from then on they are uploads that wait. */
  async function raise(ownerId: string, ids: string[]): Promise<{ locked: number; raised: Manifest[] }> {
    await glance.assertAnswers(ids[0]!);
    const done = await db.transaction(async (tx) => {
      const letters = await queries.lockDeadLetters(tx, ownerId, ids);
      const found = await Promise.all(letters.map(async ({ uploadId }) => {
        const manifest = await inbox.findRetriable(uploadId);
        return manifest?.owner_id === ownerId ? manifest : undefined;
      }));
      const raised = found.flatMap((manifest) => manifest ?? []);
      if (raised.length > 0) await queries.deleteDeadLetters(tx, raised.map(({ upload_id }) => upload_id));
      return { locked: letters.length, raised };
    });
    if (done.raised.length > 0) await failpoint("dead-letters-raised");
    return done;
  }

  /**
   * Throws an upload away, bytes and all. The bytes first: should the rest fail, the letter stays, without bytes, and can be
   * discarded again; the other way round the reconciler would find an upload that waits.
   * @throws Failure DEAD_LETTER_NOT_FOUND; Unavailable
   */
  async function discard(ownerId: string, id: string): Promise<void> {
    if (!isId(id)) throw new Failure("DEAD_LETTER_NOT_FOUND");
    await glance.assertAnswers(id);
    await db.transaction(async (tx) => {
      const letter = await queries.lockDeadLetterAlone(tx, ownerId, id);
      const manifest = letter && (await inbox.find(id))?.manifest;
      if (!letter || (manifest && manifest.owner_id !== ownerId)) throw new Failure("DEAD_LETTER_NOT_FOUND");
      // A blob that only the letter names may be the stream's invention. Without a manifest it is swept after a day.
      await inbox.remove([manifest ?? unreadable(id)]);
      await failpoint("bytes-discarded");
      await queries.insertDiscarded(tx, id, manifest, `Discarded as a dead letter. ${letter.code}: ${letter.reason}`, worker);
    });
    await failpoint("dead-letter-discarded");
    log.info({ uploadId: id }, "dead letter discarded");
  }

  /**
   * The sender handed the same bytes in again, under the same Idempotency-Key, and the first ones are damaged or lost: the
   * good ones take their place. What else was said of the upload stays, its time of acceptance above all: the inbox's word,
   * else the letter's where it is of these very bytes, else what is said now.
   * @returns the manifest that stands now, to be queued; undefined when there is no such letter (any more), or another manifest
   * @throws Failure IDEMPOTENCY_KEY_REUSED when the first bytes were others; Unavailable: then the bytes may have been taken
   */
  async function heal(again: Omit<Manifest, "blob_key">, received: Received): Promise<Manifest | undefined> {
    const id = again.upload_id;
    await inbox.findManifest(id); // with the patience of an upload
    const healed = await db.transaction(async (tx) => {
      const [letter] = await queries.lockDeadLetters(tx, again.owner_id, [id]);
      if (!letter) return undefined;
      const first = (await inbox.find(id))?.manifest;
      if (first && !HEALED_BY_BYTES.has(letter.code)) return undefined;
      if (first && first.sha256 !== again.sha256) throw new Failure("IDEMPOTENCY_KEY_REUSED");
      const manifest = await inbox.replace(first ?? described(letter, again) ?? { ...again, accepted_by: REPLACED }, received, first);
      if (!manifest) return undefined;
      await failpoint("bytes-replaced");
      await queries.deleteDeadLetters(tx, [id]);
      return { manifest, oldBlobKey: first?.blob_key ?? null };
    });
    if (!healed) return undefined;
    await failpoint("dead-letter-healed");
    if (healed.oldBlobKey !== received.blobKey) await inbox.discard({ blobKey: healed.oldBlobKey });
    log.info({ uploadId: id }, "dead letter healed: its sender handed in the same bytes again");
    return healed.manifest;
  }

  return { list, find, retry, retryAll, discard, heal };
}

function described(letter: queries.DeadLetter, again: Omit<Manifest, "blob_key">): Manifest | undefined {
  const { data } = Manifest.safeParse(letter.message);
  const same = data && (["upload_id", "owner_id", "sha256", "size_bytes"] as const).every((field) => data[field] === again[field]);
  return same ? data : undefined;
}

function encodeCursor({ failedAtMicros, uploadId }: queries.DeadLetterPosition): string {
  return Buffer.from(`${failedAtMicros} ${uploadId}`).toString("base64url");
}

function decodeCursor(cursor: string): queries.DeadLetterPosition {
  const [micros = "", uploadId = ""] = Buffer.from(cursor, "base64url").toString().split(" ");
  if (!/^\d{1,16}$/.test(micros) || !isId(uploadId)) throw new Failure("INVALID_QUERY", "cursor: take it from next_cursor of the page before.");
  return { failedAtMicros: Number(micros), uploadId };
}

/** A dead letter as the API shows it. */
export function describeDeadLetter(letter: ListedDeadLetter) {
  return {
    id: letter.uploadId,
    file_name: letter.fileName,
    size: letter.sizeBytes,
    sha256: letter.sha256,
    uploader_id: letter.uploaderId,
    code: letter.code,
    reason: letter.reason,
    attempts: letter.attempts,
    first_failed_at: letter.firstFailedAt,
    failed_at: letter.failedAt,
    retriable: letter.retriable,
    url: `/api/files/${letter.uploadId}`,
    status_url: `/api/files/${letter.uploadId}/status`,
  };
}
