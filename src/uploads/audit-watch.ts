import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Database } from "../db/pool.ts";
import type { AuditReader } from "./audit.ts";
import * as queries from "./audit-queries.ts";

const LOCK = "connectstorm:audit";
const REST_PER_READING = 10; // times as long as it took
const MOST_NAMED = 20; // acceptors in one line of the log

/** Audits while nobody looks on, says what is missing, and copies the tallies to where the loss of an inbox leaves them alone. */
export function createAuditWatch({ db, audit, clock, log }: { db: Database; audit: AuditReader; clock: Clock; log: Log }) {
  let notBefore = 0;
  let said = "";

  /** One process at a time. @returns whether it was this one, now; @throws Unavailable */
  async function runOnce(): Promise<boolean> {
    if (clock.now().getTime() < notBefore) return false;
    return (await db.exclusively(LOCK, look)) ?? false;
  }

  async function look(): Promise<boolean> {
    const { difference, missing, news, tookMs } = await audit.read();
    notBefore = clock.now().getTime() + tookMs * REST_PER_READING;
    await queries.rememberTallies(db, news);
    if (difference) tell(difference, missing);
    return true;
  }

  /** Once a change: what is missing stays missing until somebody has seen to it. */
  function tell(difference: { files: number; bytes: number }, missing: readonly unknown[]): void {
    const figures = missing.length === 0 ? "" : JSON.stringify(missing);
    if (figures === said) return;
    said = figures;
    if (figures) log.error({ ...difference, missing: missing.slice(0, MOST_NAMED) }, "acknowledged uploads are missing");
    else log.info("no acknowledged upload is missing any more");
  }

  return { runOnce };
}
