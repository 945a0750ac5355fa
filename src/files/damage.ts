import { setTimeout as sleep } from "node:timers/promises";
import { Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import type { Log } from "../core/log.ts";
import { createTurns } from "../core/turns.ts";
import type { Database } from "../db/pool.ts";
import type { Expected, Verdict, Verifier } from "../objects/verify.ts";
import * as queries from "./queries.ts";
import type { ObjectEvent } from "./queries.ts";

export type FoundBy = "download" | "settle" | "scrub" | "verify";

export interface DamageSettings {
  db: Database;
  /** Of the final storage. */
  verifier: Verifier;
  /** Recorded in the ledger as the worker. */
  name: string;
  log: Log;
  /** Files looked through at once for those that refer to an object. */
  filesAtOnce?: number;
}

const WAIT_MS = 200;
const MOST_WAITS = 150;

export type Damage = ReturnType<typeof createDamage>;

/**
 * What is known to be damaged among stored objects: a row in damaged_objects while it is, and in the ledger a row for each
 * file that refers to it, 'damaged' when it was found and 'repaired' when it was good again. Whoever writes such rows has
 * read the object himself, under a lock of its own, so that each damage is told once, and nothing else as damage.
 */
export function createDamage({ db, verifier, name, log, filesAtOnce = 50_000 }: DamageSettings) {
  const inTurn = createTurns(1); // each holds a connection while it uses others
  const reports = new Map<string, Promise<void>>();

  /** Reads the object again and brings the records in line. @returns undefined when another process is about it; @throws Unavailable */
  function check(expected: Expected, foundBy: FoundBy): Promise<Verdict | undefined> {
    return inTurn(() => locked(expected, async () => {
      const verdict = await verifier.verify(expected);
      if (verdict.good) await recordRepaired(expected, foundBy);
      else await recordDamaged(expected, verdict, foundBy);
      return verdict;
    }));
  }

  /** For who cannot wait and has more to do: checks by and by, and once at a time. */
  function report(expected: Expected, foundBy: FoundBy): void {
    if (reports.has(expected.key)) return;
    const checking = check(expected, foundBy).then(
      (verdict) => {
        if (verdict?.good) log.warn({ storageKey: expected.key, foundBy }, "an object that was read as damaged is good when it is read again");
      },
      (err: unknown) => log.error({ err, storageKey: expected.key, foundBy }, "a damaged object could not be recorded"),
    );
    reports.set(expected.key, checking.finally(() => reports.delete(expected.key)));
  }

  /**
   * Puts good bytes in the place of an object that proved damaged, unless somebody else has done so meanwhile.
   * @throws Unavailable; what `replace` throws
   */
  function repair(expected: Expected, replace: () => Promise<unknown>): Promise<void> {
    return inTurn(async () => {
      for (let waits = 0; waits < MOST_WAITS; waits++) {
        const done = await locked(expected, async () => {
          const verdict = await verifier.verify(expected);
          if (!verdict.good) {
            await recordDamaged(expected, verdict, "settle");
            await failpoint("damage-recorded");
            await replace();
            await failpoint("object-replaced");
          }
          await recordRepaired(expected, "settle");
          return true;
        });
        if (done) return;
        await sleep(WAIT_MS);
      }
      throw new Unavailable("storage", { cause: new Error("another process is looking at the same object for too long") });
    });
  }

  /** Those of the objects that are known to be damaged. */
  function among(keys: readonly string[]): Promise<Set<string>> {
    return queries.selectDamagedAmong(db, keys);
  }

  async function recordDamaged(expected: Expected, { problem, reason }: Verdict & { good: false }, foundBy: FoundBy): Promise<void> {
    const told = `${problem}: ${reason}`;
    const files = await db.transaction(async (tx) => {
      if (!(await queries.insertDamaged(tx, { ...expected, problem, reason, foundBy }))) return undefined;
      return tell(tx, { key: expected.key, event: "damaged", reason: told, worker: name });
    });
    if (files !== undefined) log.error({ storageKey: expected.key, reason: told, foundBy, files }, "a stored object is damaged");
  }

  async function recordRepaired({ key }: Expected, foundBy: FoundBy): Promise<void> {
    const reason = foundBy === "settle" ? "the same bytes were handed in again" : "it is good again";
    const files = await db.transaction(async (tx) => {
      if (!(await queries.deleteDamaged(tx, key))) return undefined;
      return tell(tx, { key, event: "repaired", reason, worker: name });
    });
    if (files !== undefined) log.info({ storageKey: key, reason, foundBy, files }, "a damaged object is good again");
  }

  /** @returns how many files refer to it */
  async function tell(tx: Parameters<Parameters<Database["transaction"]>[0]>[0], event: ObjectEvent): Promise<number> {
    let records = 0;
    for (let after: string | null = queries.FIRST_ID; after !== null; ) {
      const page: Awaited<ReturnType<typeof queries.insertObjectEvents>> = await queries.insertObjectEvents(tx, event, after, filesAtOnce);
      records += page.records;
      after = page.last;
    }
    await queries.addToTotals(tx, records);
    return records;
  }

  function locked<T>({ key }: Expected, work: () => Promise<T>): Promise<T | undefined> {
    return db.exclusively(`connectstorm:object:${key}`, work);
  }

  /** Waits for what was reported. */
  async function stop(): Promise<void> {
    await Promise.all(reports.values());
  }

  return { check, report, repair, among, stop };
}
