import { Failure, Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { isDerived, isId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { isDataError, type Database } from "../db/pool.ts";
import { createDamage, type Damage } from "../files/damage.ts";
import { Damaged, type ObjectStore } from "../objects/object-store.ts";
import { createVerifier, type Verifier } from "../objects/verify.ts";
import type { Entry } from "../stream/consumer.ts";
import type { Inbox } from "./inbox.ts";
import type { InboxRecord } from "./inbox-record.ts";
import { ItemTrouble } from "./item-trouble.ts";
import { readManifest, type Manifest } from "./messages.ts";
import type { Meter } from "./live/meter.ts";
import { selectDiscarded } from "./dead-letters/dead-letter-queries.ts";
import * as queries from "./queries.ts";
import type { SettledRow } from "./queries.ts";
import { createStoring, objectKey } from "./store-object.ts";

export interface SettleSettings {
  db: Database;
  inbox: Inbox;
  storage: ObjectStore;
  /** Of that storage; they are made where they are not given. */
  verifier?: Verifier;
  damage?: Damage;
  /** Recorded in the ledger. */
  worker: string;
  /** Aborted when the process is to end: the slice in hand is finished, the rest of the batch is left to others. */
  stopping?: AbortSignal;
  /** Told what is in the ledger now, and of each attempt that failed: for figures. */
  meter?: Pick<Meter, "settled" | "failed">;
  log: Log;
}

/** An upload in hand: the stream's entry and what the inbox has under its id. */
interface Item extends InboxRecord {
  entry: Entry;
}

export const MOST_ATTEMPTS = 3;
const SLICE_BYTES = 8 * 1024 * 1024; // of small uploads held in memory at once
const SLICE_TOTAL_BYTES = 256 * 1024 * 1024; // of all uploads: what is settled stays settled when a long batch breaks off
const READ_AT_ONCE = 32; // inbox records fetched side by side, for an inbox on S3

export type Settle = ReturnType<typeof createSettle>;

/**
 * Stream -> storage -> ledger, a batch at a time. Every step may be repeated: objects are created if absent, rows are
 * inserted once, what is removed may be gone already. So a batch that broke off anywhere is simply done again.
 */
export function createSettle({ db, inbox, storage, worker, stopping, meter, log, ...shared }: SettleSettings) {
  const { verifier = createVerifier({ store: storage }) } = shared;
  const { damage = createDamage({ db, verifier, name: worker, log }) } = shared;
  const storeObject = createStoring({ inbox, storage, verifier, damage });

  /** A consumer's Handler. @returns ids of entries to be tried again; @throws Unavailable: none of the batch is lost */
  async function settle(entries: Entry[]): Promise<Set<string>> {
    const again = new Set<string>();
    const startedAt = performance.now();
    const known = entries.filter((entry) => isId(entry.key) || ignore(entry));
    const handled = new Set<string>();
    for await (const { items, missing, damaged } of slices(known)) {
      if (stopping?.aborted && handled.size > 0) break;
      await checkMissing(missing, () => new ItemTrouble("INBOX_ENTRY_MISSING", "The inbox has no manifest for this upload."), again);
      await checkMissing(damaged, () => new ItemTrouble("INBOX_RECORD_DAMAGED", "The inbox's record of this upload cannot be read."), again);
      await failpoint("records-read");
      const stored = await storeObjects(items, again);
      await failpoint("objects-stored");
      await settleItems(stored, again);
      for (const { key } of [...missing, ...damaged, ...items.map(({ entry }) => entry)]) handled.add(key);
    }
    for (const { id, key } of known) if (!handled.has(key)) again.add(id);
    log.info({ entries: entries.length, again: again.size, ms: Math.round(performance.now() - startedAt) }, "batch settled");
    return again;
  }

  /** Reads the inbox in slices that fit in memory. Each upload once, however often the stream has it. */
  async function* slices(entries: Entry[]): AsyncGenerator<{ items: Item[]; missing: Entry[]; damaged: Entry[] }> {
    let items: Item[] = [];
    let missing: Entry[] = [];
    let damaged: Entry[] = [];
    let bytes = 0;
    let totalBytes = 0;
    const once = [...new Map(entries.map((entry) => [entry.key, entry])).values()];
    for (let from = 0; from < once.length; from += READ_AT_ONCE) {
      const some = once.slice(from, from + READ_AT_ONCE);
      const records = await Promise.all(some.map((entry) => inbox.findUndamaged(entry.key).catch(unlessDamaged)));
      records.forEach((record, index) => {
        const entry = some[index]!;
        if (record === "damaged") damaged.push(entry);
        else if (record) items.push({ ...record, entry });
        else missing.push(entry);
        if (!record || record === "damaged") return;
        bytes += record.bytes?.length ?? 0;
        totalBytes += record.manifest.size_bytes;
      });
      if (bytes < SLICE_BYTES && totalBytes < SLICE_TOTAL_BYTES && from + READ_AT_ONCE < once.length) continue;
      yield { items, missing, damaged };
      [items, missing, damaged, bytes, totalBytes] = [[], [], [], 0, 0];
    }
  }

  /** No longer in the inbox, or not to be read: settled by an earlier delivery, as a rule, or discarded. */
  async function checkMissing(missing: Entry[], trouble: () => ItemTrouble, again: Set<string>): Promise<void> {
    if (missing.length === 0) return;
    const { stored, dead } = await queries.selectFinished(db, missing.map(({ key }) => key));
    const open = missing.filter(({ key }) => !stored.has(key) && !dead.has(key));
    const discarded = await discardedOf(open.flatMap((entry) => describe(entry) ?? []));
    for (const entry of open) {
      if (discarded.has(entry.key)) continue;
      await spendAttempt(entry, undefined, trouble(), again);
    }
  }

  /** Ids of those of the uploads that a person threw away as dead letters, in this acceptance of theirs. */
  async function discardedOf(manifests: Manifest[]): Promise<Set<string>> {
    if (manifests.length === 0) return new Set();
    const known = await selectDiscarded(db, manifests.map(({ upload_id }) => upload_id));
    const same = (manifest: Manifest) => known.some((one) => one.uploadId === manifest.upload_id && one.eventTime.getTime() === Date.parse(manifest.event_time));
    return new Set(manifests.filter(same).map(({ upload_id }) => upload_id));
  }

  /**
   * @returns the items whose bytes are in storage now; the others have spent an attempt
   * @throws Unavailable, once nothing of it is under way any more: the batch comes again, maybe to another worker
   */
  async function storeObjects(items: Item[], again: Set<string>): Promise<(Item & { storageKey: string })[]> {
    const givenUp = new AbortController();
    const known = damage.among(items.map(({ manifest }) => objectKey(manifest.sha256)));
    known.catch(() => {}); // awaited by each item that gets so far
    const attempts = await Promise.allSettled(items.map((item) => (
      storeObject(item, { damaged: () => known, signal: givenUp.signal }).catch((error: unknown) => {
        if (error instanceof Unavailable) givenUp.abort(error);
        return toTrouble(error);
      })
    )));
    const outcomes = attempts.map((attempt) => {
      if (attempt.status === "rejected") throw attempt.reason;
      return attempt.value;
    });
    const stored: (Item & { storageKey: string })[] = [];
    for (const [index, outcome] of outcomes.entries()) {
      const item = items[index]!;
      if (typeof outcome === "string") stored.push({ ...item, storageKey: outcome });
      else await spendAttempt(item.entry, item, outcome, again);
    }
    return stored;
  }

  /** Rows, then out of the inbox. Where the database refuses the set, halves are tried, until the row at fault stands alone. */
  async function settleItems(items: (Item & { storageKey: string })[], again: Set<string>): Promise<void> {
    if (items.length === 0) return;
    let fresh: Set<string>;
    try {
      fresh = await queries.insertSettled(db, items.map(toRow), worker);
    } catch (error) {
      if (!isDataError(error)) throw error;
      if (items.length === 1) return spendAttempt(items[0]!.entry, items[0], toTrouble(error), again);
      const middle = items.length >> 1;
      await settleItems(items.slice(0, middle), again);
      return settleItems(items.slice(middle), again);
    }
    meter?.settled(items.filter(({ manifest }) => fresh.has(manifest.upload_id)).map(({ manifest }) => (
      { sizeBytes: manifest.size_bytes, eventTime: new Date(manifest.event_time) }
    )));
    await failpoint("rows-committed");
    const settled = await withoutImpostors(items, fresh, again);
    await inbox.remove(settled.map(({ manifest }) => manifest));
    await failpoint("inbox-removed");
  }

  /**
   * An id that is a file already is a redelivery, if the bytes are the same. Other bytes under one Idempotency-Key can
   * only get here when the first was settled and the database was away as the second came in: never dropped in silence.
   */
  async function withoutImpostors<T extends Item>(items: T[], fresh: Set<string>, again: Set<string>): Promise<T[]> {
    const seen = items.filter(({ manifest }) => !fresh.has(manifest.upload_id));
    if (seen.length === 0) return items;
    const hashes = await queries.selectSettledHashes(db, seen.map(({ manifest }) => manifest.upload_id));
    const others = seen.filter(({ manifest }) => hashes.get(manifest.upload_id) !== manifest.sha256);
    const discarded = await discardedOf(others.map(({ manifest }) => manifest));
    const impostors = others.filter(({ manifest }) => !discarded.has(manifest.upload_id));
    const same = seen.filter((item) => isDerived(item.manifest.upload_id) && !others.includes(item));
    await queries.insertRepeats(db, same.map(({ manifest }) => manifest));
    for (const item of impostors) {
      await spendAttempt(item.entry, item, new ItemTrouble("IDEMPOTENCY_KEY_REUSED", "A file with other bytes was stored under the same Idempotency-Key."), again);
    }
    return items.filter((item) => !impostors.includes(item));
  }

  /**
   * An item's own trouble: tried again, and after the third time a dead letter, whose bytes stay in the inbox. None at all
   * where others settled the item while this worker stood still, and took its bytes away, or gave it up.
   */
  async function spendAttempt(entry: Entry, item: InboxRecord | undefined, { code, message }: ItemTrouble, again: Set<string>): Promise<void> {
    const trouble = { uploadId: entry.key, code, reason: message };
    // In one transaction: a worker that dies in between has spent no attempt, so there are never more than three.
    const attempts = await db.transaction(async (tx) => {
      const counted = await queries.countAttempt(tx, trouble, entry.id, item?.manifest.sha256);
      if (counted === undefined) return undefined;
      await failpoint("attempt-counted");
      if (counted >= MOST_ATTEMPTS) await queries.insertDeadLetter(tx, trouble, entry.id, item?.manifest ?? describe(entry));
      return counted;
    });
    if (attempts === undefined) return;
    meter?.failed();
    if (attempts < MOST_ATTEMPTS) {
      log.warn({ uploadId: entry.key, streamId: entry.id, code, reason: message, attempts }, "upload could not be settled, will be tried again");
      again.add(entry.id);
      return;
    }
    await failpoint("dead-letter-written");
    log.error({ uploadId: entry.key, streamId: entry.id, code, reason: message, attempts }, "upload became a dead letter");
  }

  function ignore(entry: Entry): false {
    log.error({ streamId: entry.id }, "an entry of the stream names no upload and is dropped");
    return false;
  }

  return settle;
}

/** @throws what is no damage */
function unlessDamaged(error: unknown): "damaged" {
  if (error instanceof Damaged) return "damaged";
  throw error;
}

/**
 * What the stream says an upload is. Nothing is decided by it (docs/decisions/004): it names a dead letter whose manifest
 * the inbox has lost, and tells two acceptances under one Idempotency-Key apart. Undefined where it makes no sense.
 */
function describe(entry: Entry): Manifest | undefined {
  const manifest = readManifest(entry.body);
  return manifest?.upload_id === entry.key && Date.parse(manifest.event_time) > 0 ? manifest : undefined;
}

/** @throws Unavailable as it came: that is nobody's fault among the items */
function toTrouble(error: unknown): ItemTrouble {
  if (error instanceof Unavailable) throw error;
  if (error instanceof ItemTrouble) return error;
  const code = error instanceof Failure ? error.code : "SETTLE_FAILED";
  const message = (error instanceof Error ? error.message : String(error)).replaceAll("\0", "");
  return new ItemTrouble(code, message, { cause: error });
}

function toRow({ manifest, entry, storageKey }: Item & { storageKey: string }): SettledRow {
  const { blob_key: _, ...row } = manifest;
  return { ...row, storage_key: storageKey, stream_id: entry.id };
}
