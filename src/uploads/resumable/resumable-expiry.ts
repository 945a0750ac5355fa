import type { Clock } from "../../core/clock.ts";
import type { Log } from "../../core/log.ts";
import { Damaged } from "../../objects/object-store.ts";
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
    await partials.removeStrayPieces(before);
    if (ended > 0) log.info({ ended }, "resumable uploads have expired");
    return ended;
  }

  /** What has ended, or is a file, is forgotten; what is neither ends now, and is forgotten as much later. @returns whether it ended */
  async function end(id: string, before: Date): Promise<boolean> {
    const partial = await partials.find(id).catch((error: unknown) => {
      if (error instanceof Damaged) return "unreadable" as const;
      throw error;
    });
    if (partial === "unreadable") return partials.forgetUnreadable(id);
    if (partial?.state === "finished" || partial?.state === "ended") {
      await partials.forget(partial);
      return false;
    }
    if (!partial) return false;
    const { touchedAt } = await partials.progress(partial);
    if (touchedAt && touchedAt >= before) return false;
    const isEnded = (await partials.change(partial, { state: "ended" })) !== undefined;
    // Of one that was being closed a blob may be a manifest's by now: without an upload under way it is swept, if no manifest names it.
    if (isEnded && partial.state === "open") await partials.removePieces(partial);
    return isEnded;
  }

  return { runOnce };
}
