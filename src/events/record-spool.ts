import { failpoint } from "../core/failpoints.ts";
import type { Log } from "../core/log.ts";
import { isDataError, type Database } from "../db/pool.ts";
import { Damaged } from "../objects/object-store.ts";
import { insertDeadLetters } from "./queries.ts";
import type { Recording } from "./record.ts";
import type { Spool, Spooled } from "./spool.ts";

const AT_ONCE = 100;
const MOST_PAGES = 1_000;

/**
 * Spool -> events, for what was accepted while the stream did not take it. Several workers may do it at once, and it may be in the
 * stream as well: batches are recorded once.
 */
export function createSpoolRecording({ db, spool, recording, stopping, log }: {
  db: Database;
  spool: Spool;
  recording: Recording;
  stopping: AbortSignal;
  log: Log;
}) {
  /** @returns how many units were recorded; @throws Unavailable: what is left stays */
  async function runOnce(): Promise<number> {
    let units = 0;
    for (let page = 0; page < MOST_PAGES && !stopping.aborted; page++) {
      const spooled = await spool.list(AT_ONCE);
      for (const one of spooled) {
        if (stopping.aborted) break;
        await recordOne(one);
        await spool.remove([one]);
        await failpoint("spool-removed");
        units++;
      }
      if (spooled.length < AT_ONCE) break;
    }
    if (units > 0) log.info({ units }, "events that waited on the disk were recorded");
    return units;
  }

  async function recordOne(one: Spooled): Promise<void> {
    const found = await spool.read(one).catch((error: unknown) => {
      if (error instanceof Damaged) return { unreadable: "" };
      throw error;
    });
    if (!found) return;
    if ("unreadable" in found) return giveUp(one, "it is no batch of events", found.unreadable);
    try {
      await recording.record(found);
    } catch (error) {
      if (!isDataError(error)) throw error;
      for (const batch of found) await recording.recordApart(batch, null);
    }
  }

  async function giveUp({ key }: Spooled, reason: string, message: string): Promise<void> {
    await insertDeadLetters(db, [{ batch_id: key, stream_id: null, reason, message, events: null }]);
    log.error({ batches: 1, reason }, "batches of events were given up");
  }

  return { runOnce };
}
