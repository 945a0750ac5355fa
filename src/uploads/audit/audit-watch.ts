import type { Clock } from "../../core/clock.ts";
import type { Log } from "../../core/log.ts";
import type { Database } from "../../db/pool.ts";
import type { AuditReader } from "./audit.ts";
import * as queries from "./audit-queries.ts";

const LOCK = "connectstorm:audit";
const REST_PER_READING = 10; // times as long as it took
const MOST_NAMED = 20; // acceptors in one line of the log

/** Audits while nobody looks on, says what is missing or too much, and copies the tallies to where the loss of an inbox leaves them alone. */
export function createAuditWatch({ db, audit, clock, log }: { db: Database; audit: AuditReader; clock: Clock; log: Log }) {
  let notBefore = 0;
  const said = { missing: "", surplus: "", unreadable: "" };

  /** One process at a time. @returns whether it was this one, now; @throws Unavailable */
  async function runOnce(): Promise<boolean> {
    if (clock.now().getTime() < notBefore) return false;
    return (await db.exclusively(LOCK, look)) ?? false;
  }

  async function look(): Promise<boolean> {
    const { difference, missing, replaced, surplus, unaccounted, news, unreadable, tookMs } = await audit.read();
    notBefore = clock.now().getTime() + tookMs * REST_PER_READING;
    await queries.rememberTallies(db, news);
    if (difference && isNews("missing", missing)) {
      const found = replaced.files + replaced.bytes > 0 && { replaced };
      if (missing.length > 0) log.error({ ...difference, missing: missing.slice(0, MOST_NAMED), ...found }, "acknowledged uploads are missing");
      else log.info("no acknowledged upload is missing any more");
    }
    if (surplus && isNews("surplus", unaccounted)) {
      if (unaccounted.length > 0) log.error({ ...surplus, surplus: unaccounted.slice(0, MOST_NAMED) }, "more uploads are found than were accepted");
      else log.info("no more uploads are found than were accepted");
    }
    if (isNews("unreadable", unreadable)) {
      if (unreadable.length > 0) log.error({ unreadable: unreadable.slice(0, MOST_NAMED) }, "tallies cannot be read");
      else log.info("all tallies can be read again");
    }
    return true;
  }

  /** Once a change: what is wrong stays wrong until somebody has seen to it. */
  function isNews(what: keyof typeof said, seen: readonly unknown[]): boolean {
    const figures = seen.length === 0 ? "" : JSON.stringify(seen);
    const news = figures !== said[what];
    said[what] = figures;
    return news;
  }

  return { runOnce };
}
