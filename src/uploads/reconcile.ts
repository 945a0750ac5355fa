import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { failpoint } from "../core/failpoints.ts";
import { isDerived } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import type { Database } from "../db/pool.ts";
import { appendAll } from "../stream/append.ts";
import { queuedKeys } from "../stream/backlog.ts";
import { unreadable, type Inbox } from "./inbox.ts";
import type { Manifest } from "./messages.ts";
import * as queries from "./queries.ts";

export interface ReconcileSettings {
  db: Database;
  inbox: Inbox;
  redis: Redis;
  stream: string;
  /** An upload younger than this is on its way and left alone. */
  ageMs: number;
  /** A blob without a manifest is removed when it is older than this. */
  orphanAgeMs: number;
  /** Aborted when the process is to end: a long inbox takes minutes to go through. What is not done is the next run's. */
  stopping?: AbortSignal;
  clock: Clock;
  log: Log;
}

const LOCK = "connectstorm:reconcile";
const PAGE = 1_000;
const MOST_PAGES = 200; // a run's share of a huge inbox; the next run goes on where this one stopped
const MOST_STREAM_ENTRIES = 200_000; // reading a longer stream costs more than what is missing from it can wait
const READ_AT_ONCE = 32; // inbox records, each with up to SMALL_OBJECT_BYTES of bytes
const SWEEP_EVERY_MS = 3_600_000; // or more often, where orphans are not to grow that old

export type Reconcile = ReturnType<typeof createReconcile>;

/** Inbox -> stream, for what the stream lost. One process at a time, by an advisory lock of the database. */
export function createReconcile({ db, inbox, redis, stream, ageMs, orphanAgeMs, stopping, clock, log }: ReconcileSettings) {
  let after: string | undefined;
  let sweptAt = 0;

  /**
   * Queues again every upload that waits for longer than `ageMs` and is neither settled, dead nor in the stream;
   * takes out of the inbox what is settled already.
   * @returns what it did; undefined when another process is at it
   * @throws Unavailable; the reason of `stopping`
   */
  async function runOnce(): Promise<{ requeued: number; removed: number; swept: number } | undefined> {
    return db.exclusively(LOCK, async () => {
      const done = { requeued: 0, removed: 0, swept: 0 };
      const queued = readOnce(() => queuedKeys(redis, stream, MOST_STREAM_ENTRIES));
      for (let page = 0; page < MOST_PAGES; page++) {
        stopping?.throwIfAborted();
        const { ids, next } = await inbox.listOlder(new Date(clock.now().getTime() - ageMs), PAGE, after);
        await reconcilePage(ids, queued, done);
        after = next;
        if (!next) break;
      }
      if (clock.now().getTime() - sweptAt >= Math.min(SWEEP_EVERY_MS, orphanAgeMs)) {
        done.swept = await inbox.sweep(new Date(clock.now().getTime() - orphanAgeMs), stopping);
        sweptAt = clock.now().getTime();
      }
      if (done.requeued + done.removed + done.swept > 0) log.warn(done, "reconciled the inbox with the stream and the ledger");
      return done;
    });
  }

  async function reconcilePage(ids: string[], queued: () => Promise<Set<string> | undefined>, done: { requeued: number; removed: number }): Promise<void> {
    if (ids.length === 0) return;
    await failpoint("inbox-listed");
    const { stored, dead } = await queries.selectFinished(db, ids);
    const removed = await removeSettled(ids.filter((id) => stored.has(id)));
    done.removed += removed.size;
    await failpoint("settled-removed");
    const open = ids.filter((id) => !removed.has(id) && !dead.has(id));
    if (open.length === 0) return;
    const inStream = await queued();
    if (!inStream) return;
    for await (const lost of records(open.filter((id) => !inStream.has(id)))) {
      // One that cannot be read is for the worker to give up; it needs the id alone.
      await appendAll(redis, stream, lost.map(({ id, manifest }) => ({ key: id, body: manifest ? JSON.stringify(manifest) : "{}" })));
      await failpoint("uploads-requeued");
      done.requeued += lost.length;
    }
  }

  /** Only what has the hash that was settled: other bytes under the same id are for the worker to judge. What cannot be read can go. */
  async function removeSettled(ids: string[]): Promise<Set<string>> {
    if (ids.length === 0) return new Set();
    const hashes = await queries.selectSoundHashes(db, ids);
    const removed = new Set<string>();
    for await (const some of records(ids)) {
      const same = some.filter(({ id, manifest }) => (manifest ? hashes.get(id) === manifest.sha256 : hashes.has(id)));
      await queries.insertRepeats(db, same.flatMap(({ id, manifest }) => (manifest && isDerived(id) ? [manifest] : [])));
      await inbox.remove(same.map(({ id, manifest }) => manifest ?? unreadable(id)));
      for (const { id } of same) removed.add(id);
    }
    return removed;
  }

  /** What the inbox has of these, a few at a time. */
  async function* records(ids: string[]): AsyncGenerator<{ id: string; manifest: Manifest | undefined }[]> {
    for (let from = 0; from < ids.length; from += READ_AT_ONCE) {
      stopping?.throwIfAborted();
      yield await Promise.all(ids.slice(from, from + READ_AT_ONCE).map(async (id) => ({ id, manifest: (await inbox.find(id))?.manifest })));
    }
  }

  return { runOnce };
}

function readOnce<T>(read: () => Promise<T>): () => Promise<T> {
  let reading: Promise<T> | undefined;
  return () => (reading ??= read());
}
