import { probe, type Probed } from "../../core/probe.ts";
import type { ObjectStore } from "../../objects/object-store.ts";

export interface StoreWatchSettings {
  inbox: ObjectStore;
  storage: ObjectStore;
  /** In a sentence. @throws Unavailable */
  spaceWarning: () => string | undefined;
}

const DISK_FRESH_MS = 1_000;
const BUCKET_FRESH_MS = 10_000; // a question to a bucket costs money

export type StoreWatch = ReturnType<typeof createStoreWatch>;

/** Whether inbox and storage answer, as /ready asks them; who asks soon after gets the same answer. */
export function createStoreWatch({ inbox, storage, spaceWarning }: StoreWatchSettings) {
  const pingInbox = oneAtATime(() => inbox.ping());
  const pingStorage = oneAtATime(() => storage.ping());
  const askInbox = keeping(inbox, () => probe("inbox", pingInbox, async () => spaceWarning()));
  const askStorage = keeping(storage, () => probe("storage", pingStorage));

  async function look() {
    const [ofInbox, ofStorage] = await Promise.all([askInbox(), askStorage()]);
    return {
      /** Those that do not answer. */
      away: [...(ofInbox.ok ? [] : ["inbox"]), ...(ofStorage.ok ? [] : ["storage"])],
      spaceWarning: ofInbox.warning ?? null,
    };
  }

  return { look };
}

function keeping({ kind }: ObjectStore, ask: () => Promise<Probed>): () => Promise<Probed> {
  const freshMs = kind === "s3" ? BUCKET_FRESH_MS : DISK_FRESH_MS;
  let last: { until: number; answer: Promise<Probed> } | undefined;
  return () => {
    if (!last || performance.now() >= last.until) last = { until: performance.now() + freshMs, answer: ask() };
    return last.answer;
  };
}

/** A probe gives up on a disk that hangs, but what it asked hangs on, and holds a thread: there is never more than one of them. */
function oneAtATime(ping: () => Promise<void>): () => Promise<void> {
  let pinging: Promise<void> | undefined;
  return () => (pinging ??= ping().finally(() => (pinging = undefined)));
}
