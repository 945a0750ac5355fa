import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import { Damaged } from "../objects/object-store.ts";
import type { PartialUploads } from "./partial-uploads.ts";

/** Beyond what the sender was told, so that clocks which differ by an hour end nothing early. */
const GRACE_MS = 7_200_000;

export interface ExpirySettings {
  partials: PartialUploads;
  expiryMs: number;
  stopping?: AbortSignal;
  clock: Clock;
  log: Log;
}

/** Ends resumable uploads to which nothing came for too long. Safe to run in several processes at once. */
export function createResumableExpiry({ partials, expiryMs, stopping, clock, log }: ExpirySettings) {
  /** @returns how many were ended; @throws Unavailable; the reason of `stopping` */
  async function runOnce(): Promise<number> {
    const before = new Date(clock.now().getTime() - expiryMs - GRACE_MS);
    let ended = 0;
    for await (const page of partials.pages()) {
      for (const { id, modifiedAt } of page) {
        if (modifiedAt < before && (await end(id, before))) ended++;
        stopping?.throwIfAborted();
      }
    }
    if (ended > 0) log.info({ ended }, "resumable uploads have expired");
    return ended;
  }

  /** @returns whether an unfinished one was ended */
  async function end(id: string, before: Date): Promise<boolean> {
    const partial = await partials.find(id).catch((error: unknown) => {
      if (error instanceof Damaged) return "unreadable" as const;
      throw error;
    });
    if (partial === "unreadable") return partials.forgetUnreadable(id);
    if (!partial) return false;
    // Its pieces may be a manifest's by now: without the record they are swept like any blob, if no manifest names them.
    if (partial.finished || partial.claim !== null) return (await partials.forget(partial)) && !partial.finished;
    const { touchedAt } = await partials.progress(partial);
    return (touchedAt ?? new Date(0)) < before && partials.remove(partial);
  }

  return { runOnce };
}
