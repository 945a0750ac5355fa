import { setTimeout as sleep } from "node:timers/promises";
import { within, type Span } from "./quantities.ts";

/** Milliseconds; a fake one in the tests. */
export interface LoadClock {
  now(): number;
  /** Returns at that time, or sooner when it is stopped. */
  until(atMs: number, signal: AbortSignal): Promise<void>;
}

export const realClock: LoadClock = {
  now: () => performance.now(),
  async until(atMs, signal) {
    const waitMs = atMs - performance.now();
    if (waitMs > 0) await sleep(waitMs, undefined, { signal }).catch((error: unknown) => { if (!signal.aborted) throw error; });
  },
};

/** Timers and a busy event loop are off by some milliseconds; what is later than this had to wait for a place. */
export const LATE_MS = 100;

export interface FixedUsers {
  users: number;
  /** Visits of each; undefined: until the time is over. */
  repeats: number | undefined;
  durationMs: number | undefined;
  think: Span;
  clock: LoadClock;
  signal: AbortSignal;
  /** A stream of its own for each user, so that what one does depends on no other. */
  randomOf(user: number): () => number;
  /** One person for all of their visits; `visit` is called with the time at which it was due. */
  live(user: number, visits: (visit: (dueMs: number) => Promise<void>) => Promise<void>): Promise<void>;
}

/** The closed model: so many people, each of whom waits for one visit to end before the next. */
export async function runFixedUsers({ users, repeats, durationMs, think, clock, signal, randomOf, live }: FixedUsers): Promise<void> {
  const endsAt = durationMs === undefined ? Infinity : clock.now() + durationMs;
  await Promise.all(Array.from({ length: users }, async (_, index) => {
    const random = randomOf(index);
    await live(index, async (visit) => {
      // People do not come in step: the first visit has its thinking time too, from nothing on.
      await clock.until(clock.now() + random() * think.mostMs, signal);
      for (let turn = 0; turn < (repeats ?? Infinity) && clock.now() < endsAt && !signal.aborted; turn++) {
        if (turn > 0) await clock.until(Math.min(clock.now() + within(think, random), endsAt), signal);
        if (!signal.aborted && clock.now() < endsAt) await visit(clock.now());
      }
    });
  }));
}

export interface Arrivals {
  perSecond: number;
  durationMs: number;
  /** People at once; who arrives when all places are taken waits, and is late. */
  mostAtOnce: number;
  /** After the last one was due: whoever still waits for a place by then never gets one. */
  patienceMs: number;
  clock: LoadClock;
  signal: AbortSignal;
  random: () => number;
  /** One person with one visit, measured from the time at which it was due. */
  visit(arrival: number, dueMs: number): Promise<void>;
  /** Called for each that started, with how late it was. */
  started(latenessMs: number): void;
  neverStarted(count: number): void;
}

/**
 * The open model: people arrive whether the site keeps up or not. Each comes at a random moment of its own slot of
 * 1/rate, so the number is exact and they do not come in step.
 */
export async function runArrivals({ perSecond, durationMs, mostAtOnce, patienceMs, clock, signal, random, visit, started, neverStarted }: Arrivals): Promise<void> {
  const beginsAt = clock.now(), slotMs = 1000 / perSecond;
  const count = Math.round((perSecond * durationMs) / 1000);
  const givesUpAt = beginsAt + durationMs + patienceMs;
  const underWay = new Set<Promise<void>>();
  const loadEnded = new AbortController();
  let freed = () => undefined as void;
  const over = clock.until(givesUpAt, AbortSignal.any([signal, loadEnded.signal])).then(() => freed());
  for (let arrival = 0; arrival < count; arrival++) {
    const dueMs = beginsAt + (arrival + random()) * slotMs;
    await clock.until(dueMs, signal);
    while (underWay.size >= mostAtOnce && !signal.aborted && clock.now() < givesUpAt) {
      await new Promise<void>((resolve) => { freed = resolve; });
    }
    if (signal.aborted) break; // Somebody wants to see what there is: those who were not due are no errors.
    if (clock.now() >= givesUpAt) {
      neverStarted(count - arrival);
      break;
    }
    started(Math.max(0, clock.now() - dueMs));
    const going: Promise<void> = visit(arrival, dueMs).finally(() => {
      underWay.delete(going);
      freed();
    });
    underWay.add(going);
  }
  loadEnded.abort();
  await Promise.all([over, ...underWay]);
}
