import { setImmediate as nextTurn } from "node:timers/promises";
import { Failure } from "../core/errors.ts";
import type { Inbox } from "./inbox.ts";

export interface BacklogSettings {
  inbox: Pick<Inbox, "weigh">;
  mostUploads: number;
  mostBytes: number;
  /** Listing a bucket costs money. */
  lookEveryMs: number;
}

/** What waits in the inbox: uploads with a manifest, and what they take of the store. */
export interface Waiting {
  uploads: number;
  bytes: number;
}

const RETRY_AFTER_SECONDS = 30; // a worker needs longer for a backlog than the door for one upload
/** A look may take one part in so many of the time. */
const PAUSE_PER_LOOK = 20;
const LEAST_PAUSE_MS = 250;

export type Backlog = ReturnType<typeof createBacklog>;

/**
 * Knows about how much waits in the inbox: what the last look found, and what this process accepted since. The inbox is
 * looked at only while uploads come, or while it was found full; never twice at once. Where it cannot be looked at, the
 * door stays open: whether the inbox takes an upload, it says itself.
 */
export function createBacklog({ inbox, mostUploads, mostBytes, lookEveryMs }: BacklogSettings) {
  let [found, since] = [nothing(), nothing()];
  let looking: Promise<void> | undefined;
  let soonest = Number.NEGATIVE_INFINITY; // when the next look may begin,
  let due = Number.NEGATIVE_INFINITY; // and from when on it is wanted
  let timer: NodeJS.Timeout | undefined;
  const ended = new AbortController();

  /**
   * @param coming  uploads that are let in already and may become part of it
   * @param bringsBytes  of the one that asks
   * @throws Failure BACKLOG_FULL
   */
  function assertRoom(coming: Readonly<Waiting>, bringsBytes: number): void {
    const now = performance.now();
    const full = isFull(coming, bringsBytes);
    if (now >= (full ? soonest : due)) void look();
    if (full) throw new Failure("BACKLOG_FULL", undefined, { retryAfterSeconds: RETRY_AFTER_SECONDS });
  }

  /** Where nothing waits and nothing comes, one upload may be larger than all may be together: it would never get in. */
  function isFull(coming: Readonly<Waiting>, bringsBytes: number): boolean {
    const uploads = found.uploads + since.uploads + coming.uploads;
    const bytes = found.bytes + since.bytes + coming.bytes;
    return uploads >= mostUploads || bytes >= mostBytes || (uploads > 0 && bytes + bringsBytes > mostBytes);
  }

  function accepted(sizeBytes: number): void {
    since.uploads++;
    since.bytes += sizeBytes;
  }

  /** @returns when what was found counts; the same look for all who ask while it lasts */
  function look(): Promise<void> {
    if (ended.signal.aborted) return Promise.resolve();
    return (looking ??= lookNow().finally(() => (looking = undefined)));
  }

  async function lookNow(): Promise<void> {
    clearTimeout(timer);
    const before = { ...since };
    const beganAt = performance.now();
    try {
      found = await inbox.weigh(nextTurn, ended.signal);
      since.uploads -= before.uploads;
      since.bytes -= before.bytes;
    } catch {
      if (ended.signal.aborted) return;
      [found, since] = [nothing(), nothing()]; // not known
    }
    const endedAt = performance.now();
    soonest = endedAt + Math.max(LEAST_PAUSE_MS, PAUSE_PER_LOOK * (endedAt - beganAt));
    due = Math.max(soonest, beganAt + lookEveryMs);
    if (isFull(nothing(), 0)) timer = setTimeout(() => void look(), due - endedAt).unref();
  }

  /** A look that is under way asks the store for nothing more. */
  function stop(): void {
    ended.abort();
    clearTimeout(timer);
  }

  return { assertRoom, accepted, look, stop };
}

function nothing(): Waiting {
  return { uploads: 0, bytes: 0 };
}
