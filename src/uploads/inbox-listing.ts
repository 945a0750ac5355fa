import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../core/clock.ts";
import { timeOf } from "../core/ids.ts";
import { knowsItsDisk, listsKeys, pagesOf, type ObjectStore } from "../objects/object-store.ts";
import { BLOBS, EVENTS, MANIFESTS, PARTIALS, PIECES } from "./inbox-keys.ts";
import type { Manifest } from "./messages.ts";
import { decodeChecked, PartialUpload } from "./resumable/partial-record.ts";
import { uploadOfBlob } from "./resumable/partial-uploads.ts";

/** What else lies in an inbox: resumable uploads, events, the web processes' tallies, and whose inbox it is. */
const NO_UPLOADS = [PARTIALS, PIECES, EVENTS, "tallies/", "identity"];
const LIST_AT_ONCE = 1_000;
const BLOBS_AT_ONCE = 100; // on a disk, listing reads the small ones: pieces of resumable uploads
const READ_AT_ONCE = 32;
const MOST_TIMES = 200_000; // about 20 MB
const MOST_SKEW_MS = 1_000; // between clocks that are kept in step

/** What waits in the inbox, as a whole: for the reconciler, the audit, the door and the sweeper. */
export function createInboxListing({ store, clock, readManifestAt }: {
  store: ObjectStore;
  clock: Clock;
  readManifestAt: (key: string) => Promise<Manifest | "unreadable" | undefined>;
}) {
  const times = new Map<string, number>(); // since when uploads wait whose ids do not tell; see listOlder

  /**
   * Ids of uploads that wait since before `before`, a page at a time. One from the future was written by a machine whose
   * clock is ahead of ours: how long it waits cannot be told, so it counts as old, or it would wait until we are there.
   * @returns `next` to go on with, if there may be more
   */
  async function listOlder(before: Date, limit: number, after?: string): Promise<{ ids: string[]; next: string | undefined }> {
    const { waiting, next } = await list(limit, after);
    const ids: string[] = [];
    for (const { id, modifiedAt } of waiting) {
      const at = modifiedAt?.getTime() ?? timeOf(id) ?? (await lookUpTime(id));
      if (at !== undefined && (at < before.getTime() || at > clock.now().getTime() + MOST_SKEW_MS)) ids.push(id);
    }
    return { ids, next };
  }

  /** Of an id that does not tell when it was made, read once. Undefined: it is gone. */
  async function lookUpTime(id: string): Promise<number | undefined> {
    const known = times.get(id);
    if (known !== undefined) return known;
    await nextTurn(); // a disk's index reads the whole record for it, and nobody else's turn comes meanwhile
    const found = await store.head(MANIFESTS + id);
    if (!found) return undefined;
    if (times.size >= MOST_TIMES) times.clear();
    times.set(id, found.modifiedAt.getTime());
    return found.modifiedAt.getTime();
  }

  /**
   * All uploads that wait, a page at a time, by id. Where looking at them would read them, it is not said since when: with
   * gigabytes waiting, each listing would read all of that.
   * @returns `next` to go on with, if there may be more
   */
  async function list(limit: number, after?: string): Promise<{ waiting: { id: string; modifiedAt?: Date }[]; next: string | undefined }> {
    const place = { limit, ...(after && { after: MANIFESTS + after }) };
    const page: { key: string; modifiedAt?: Date }[] = listsKeys(store)
      ? (await store.listKeys(MANIFESTS, place)).map((key) => ({ key }))
      : await store.list(MANIFESTS, place);
    const waiting = page.map(({ key, modifiedAt }) => ({ id: key.slice(MANIFESTS.length), ...(modifiedAt && { modifiedAt }) }));
    return { waiting, next: page.length === limit ? waiting.at(-1)!.id : undefined };
  }

  /**
   * How many uploads wait, and what all that is here takes of the store: dead letters' bytes and uploads still coming in, too.
   * A disk's index knows how much it holds, so that only large uploads are listed there, where listing small ones would read them.
   * @param nextTurn  awaited between two pages, so that nobody waits for a long list
   * @throws what the signal was aborted with; Unavailable
   */
  async function weigh(nextTurn: () => Promise<unknown>, signal: AbortSignal): Promise<{ uploads: number; bytes: number }> {
    const index = knowsItsDisk(store) ? { ...store.usage(), smallObjectBytes: store.smallObjectBytes } : undefined;
    let [uploads, bytes] = index ? [index.entries, index.sizeBytes] : [0, 0];
    for (const prefix of index ? NO_UPLOADS : []) {
      for await (const page of pagesOf(store, prefix)) {
        for (const { sizeBytes } of page) uploads -= sizeBytes > index!.smallObjectBytes ? 2 : 1;
        await nextTurn();
        signal.throwIfAborted();
      }
    }
    for (const prefix of index ? [BLOBS] : [MANIFESTS, BLOBS]) {
      for await (const page of pagesOf(store, prefix, index ? BLOBS_AT_ONCE : LIST_AT_ONCE)) {
        for (const { key, sizeBytes } of page) {
          if (!index) uploads += key.startsWith(MANIFESTS) ? 1 : 0;
          else uploads -= sizeBytes > index.smallObjectBytes ? 2 : 1;
          bytes += sizeBytes;
        }
        await nextTurn();
        signal.throwIfAborted();
      }
    }
    return { uploads: Math.max(0, uploads), bytes };
  }

  /**
   * Removes blobs older than `before` whose manifest was never written and that are of no resumable upload. A manifest that
   * cannot be read may name any of them, so none is removed until it is healed or discarded.
   * @returns how many; @throws Unavailable; the signal's reason, with nothing removed
   */
  async function sweep(before: Date, stopping?: AbortSignal): Promise<number> {
    const orphans = new Set<string>();
    for await (const page of pagesOf(store, BLOBS, BLOBS_AT_ONCE)) {
      for (const { key, modifiedAt } of page) if (modifiedAt < before) orphans.add(key);
      await nextTurn();
      stopping?.throwIfAborted();
    }
    await spareUnfinished(orphans, stopping); // before the manifests are read: what is finished in between has one by then
    if (orphans.size === 0) return 0;
    for (let after: string | undefined; ;) {
      const { waiting, next } = await list(LIST_AT_ONCE, after);
      for (let from = 0; from < waiting.length; from += READ_AT_ONCE) {
        for (const found of await Promise.all(waiting.slice(from, from + READ_AT_ONCE).map(({ id }) => readManifestAt(MANIFESTS + id)))) {
          if (found === "unreadable") return 0;
          if (found?.blob_key) orphans.delete(found.blob_key);
        }
        stopping?.throwIfAborted();
      }
      if (!next) break;
      after = next;
    }
    await store.remove([...orphans]);
    return orphans.size;
  }

  async function spareUnfinished(orphans: Set<string>, stopping: AbortSignal | undefined): Promise<void> {
    const underWay = new Map<string, boolean>();
    for (const key of orphans) {
      const upload = uploadOfBlob(key);
      if (!upload) continue;
      const incarnation = `${upload.id} ${upload.nonce}`;
      if (!underWay.has(incarnation)) underWay.set(incarnation, await isUnderWay(upload));
      if (underWay.get(incarnation)) orphans.delete(key);
      stopping?.throwIfAborted();
    }
  }

  /** One that cannot be read counts as such until it expires. */
  async function isUnderWay({ id, nonce }: { id: string; nonce: string }): Promise<boolean> {
    const record = await store.readWhole(PARTIALS + id);
    const partial = record && decodeChecked(PartialUpload, record);
    return record !== undefined && (!partial || (partial.nonce === nonce && (partial.state === "open" || partial.state === "closing")));
  }

  return { list, listOlder, weigh, sweep };
}
