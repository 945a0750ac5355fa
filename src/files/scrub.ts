import { pause } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/log.ts";
import type { Database } from "../db/pool.ts";
import type { Pace, Verifier } from "../objects/verify.ts";
import type { Damage } from "./damage.ts";
import * as queries from "./queries.ts";
import type { ObjectRow, ScrubState } from "./queries.ts";

export interface ScrubSettings {
  db: Database;
  verifier: Verifier;
  damage: Damage;
  bytesPerSecond: number;
  /** Aborted when the process is to end. */
  stopping: AbortSignal;
  clock: Clock;
  log: Log;
}

const LOCK = "connectstorm:scrub";
const PAGE = 500;
const TURN_MS = 30_000; // then the lock is let go, and another worker may have it
const SAVE_EVERY_MS = 5_000;
const ROUND_AT_LEAST_MS = 3_600_000; // a small installation is not read over and over
const CHECK_AGAIN_MS = 600_000; // known damage: it may have been restored from a back-up
const MOST_CHECKED_AGAIN = 20;
/** Finding a small object costs as much as reading so much. */
const LEAST_BYTES = 16 * 1024;

export type Scrub = ReturnType<typeof createScrub>;

/** Reads all stored objects again, slowly, round after round, to find those that rotted. One process at a time. */
export function createScrub({ db, verifier, damage, bytesPerSecond, stopping, clock, log }: ScrubSettings) {
  const pace = createPace(bytesPerSecond, stopping);

  /**
   * Half a minute of it, from where the last turn ended, be that in another process.
   * @returns what the round has found so far; undefined when another process is at it
   * @throws Unavailable; what was not read is read in the next turn
   */
  function runOnce(): Promise<ScrubState | undefined> {
    return db.exclusively(LOCK, async () => {
      const endsAt = performance.now() + TURN_MS;
      const state = await begin();
      try {
        await checkKnownDamage();
        while (state.endedAt === null && performance.now() < endsAt) await readPage(state, endsAt);
      } catch (error) {
        if (error !== stopping.reason) throw error;
        await queries.updateScrub(db, state);
      }
      return state;
    });
  }

  async function begin(): Promise<ScrubState> {
    const state = await queries.selectScrub(db);
    const now = clock.now();
    const due = state.beganAt === null || (state.endedAt !== null && now.getTime() - state.beganAt.getTime() >= ROUND_AT_LEAST_MS);
    return due ? { afterFile: queries.FIRST_ID, beganAt: now, endedAt: null, objects: 0, sizeBytes: 0, damaged: 0 } : state;
  }

  async function checkKnownDamage(): Promise<void> {
    const before = new Date(clock.now().getTime() - CHECK_AGAIN_MS);
    for (const object of await queries.takeDamagedToCheck(db, before, MOST_CHECKED_AGAIN)) {
      await pace(Math.max(LEAST_BYTES, object.sizeBytes));
      await damage.check(object, "scrub");
    }
  }

  async function readPage(state: ScrubState, endsAt: number): Promise<void> {
    const files = await queries.selectFileObjects(db, state.afterFile, PAGE);
    let savedAt = performance.now();
    const seen = new Set<string>();
    for (const { id, damaged, ...object } of files) {
      if (!seen.has(object.key)) await read(object, damaged, state);
      seen.add(object.key);
      state.afterFile = id;
      if (performance.now() >= endsAt) break;
      if (performance.now() - savedAt < SAVE_EVERY_MS) continue;
      await queries.updateScrub(db, state);
      savedAt = performance.now();
    }
    if (files.length < PAGE && state.afterFile === (files.at(-1)?.id ?? state.afterFile)) end(state);
    await queries.updateScrub(db, state);
  }

  async function read(object: ObjectRow, damaged: boolean, state: ScrubState): Promise<void> {
    await pace(Math.max(0, LEAST_BYTES - object.sizeBytes));
    // What is known to be damaged is looked at by checkKnownDamage.
    const rotten = damaged || (!(await verifier.verify(object, { lately: true, pace })).good && (await damage.check(object, "scrub"))?.good === false);
    state.objects++;
    state.sizeBytes += object.sizeBytes;
    if (rotten) state.damaged++;
  }

  function end(state: ScrubState): void {
    state.endedAt = clock.now();
    const { objects, sizeBytes, damaged } = state;
    log.info({ objects, sizeBytes, damaged, seconds: Math.round((state.endedAt.getTime() - state.beganAt!.getTime()) / 1000) }, "all stored objects were read again");
  }

  return { runOnce };
}

/** No more than the rate, from one second to the next; throws the signal's reason once it is aborted. */
export function createPace(bytesPerSecond: number, stopping: AbortSignal): Pace {
  let freeAt = 0; // when what was read so far is paid for
  return async (sizeBytes) => {
    const now = performance.now();
    freeAt = Math.max(now, freeAt) + (sizeBytes / bytesPerSecond) * 1000;
    if (freeAt > now) await pause(freeAt - now, stopping);
    stopping.throwIfAborted();
  };
}
