import { setImmediate as nextTurn } from "node:timers/promises";
import type { Inbox } from "../inbox.ts";

/** An upload that waits in the inbox, as far as the audit wants to know it. */
export interface Waiting {
  acceptedBy: string;
  eventTimeMs: number;
  sizeBytes: number;
}

const MOST_WAITING = 100_000; // about 20 MB of memory, and seconds of reading
const LIST_AT_ONCE = 1_000;
const READ_AT_ONCE = 32;

/**
 * The uploads that wait, each manifest read once: what was known the last time is only listed again. Where a listing does
 * not say since when they wait, an id that came back is taken for its first upload, until somebody has it forgotten.
 */
export function createInFlight(inbox: Pick<Inbox, "list" | "findManifest">, mostWaiting = MOST_WAITING, stopping?: AbortSignal) {
  let known = new Map<string, Waiting & { modifiedAt: number | undefined }>();

  /**
   * Every upload whose manifest is there from the beginning of this to its end is among them, by id.
   * @returns undefined: there are too many to be read one by one; @throws Unavailable; the reason of `stopping`
   */
  async function read(): Promise<ReadonlyMap<string, Waiting> | undefined> {
    const seen: typeof known = new Map();
    for (let after: string | undefined; ;) {
      const { waiting, next } = await inbox.list(LIST_AT_ONCE, after);
      const unread: typeof waiting = [];
      for (const entry of waiting) {
        const before = known.get(entry.id);
        if (before && before.modifiedAt === entry.modifiedAt?.getTime()) seen.set(entry.id, before);
        else unread.push(entry);
      }
      for (let from = 0; from < unread.length; from += READ_AT_ONCE) {
        await Promise.all(unread.slice(from, from + READ_AT_ONCE).map(async ({ id, modifiedAt }) => {
          const manifest = await inbox.findManifest(id);
          if (!manifest) return; // settled since it was listed, which the database is asked after this
          const { accepted_by: acceptedBy, event_time, size_bytes: sizeBytes } = manifest;
          seen.set(id, { acceptedBy, eventTimeMs: Date.parse(event_time), sizeBytes, modifiedAt: modifiedAt?.getTime() });
        }));
        await nextTurn();
        stopping?.throwIfAborted();
      }
      if (seen.size > mostWaiting) {
        known = new Map();
        return undefined;
      }
      if (!next) break;
      after = next;
      await nextTurn();
    }
    known = seen;
    return seen;
  }

  function forget(): void {
    known = new Map();
  }

  return { read, forget };
}
