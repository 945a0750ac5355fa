import type { Response } from "express";
import { Failure, Unavailable, type FailureCode } from "../core/errors.ts";
import { nonce } from "../core/ids.ts";

/** Counters that several processes share. See stream/counters.ts. */
export interface SharedCounters {
  /** Puts down what `by` has counted in all (undefined: only reads) and returns what everybody has. Telling it twice changes nothing. @throws Unavailable */
  exchange(changes: readonly { key: string; by: string; counted: number | undefined }[], expireSeconds: number): Promise<number[]>;
}

export interface RateLimitSettings {
  /** How many a minute, by whom it is counted; 0: as many as they like. */
  quotas: Readonly<Record<string, number>>;
  counters: SharedCounters;
  /** What whoever is over one of them is told. */
  code?: FailureCode;
  /** Milliseconds since 1970: the processes' windows must be the same ones. */
  now?: () => number;
}

const WINDOW_SECONDS = 60;
const WINDOW_MS = WINDOW_SECONDS * 1000;
const EXCHANGE_EVERY_MS = 200;
/** A subject's counter of a window counts on in the next one. Clocks of several processes differ a little. */
const EXPIRE_SECONDS = 3 * WINDOW_SECONDS;
/** Of one policy. With more subjects a minute than that, the ones that came longest ago are forgotten here, not in Redis. */
const MOST_SUBJECTS = 50_000;

/** What is known of one subject's window and the one before it. */
interface Count {
  /** Of its counters: policy and subject. */
  key: string;
  window: number;
  /** Under which name this one is kept beside those of other processes, and of ours that were forgotten. */
  by: string;
  /** What was counted here, and what others are known to have counted. */
  own: number;
  others: number;
  before: number;
  /** Whether `before` is what all processes counted, or only what this one saw. */
  beforeKnown: boolean;
}

export type RateLimits = ReturnType<typeof createRateLimits>;

/**
 * Limits to what one subject may do in a minute, over several processes. The minute slides: of the window before, that
 * share counts which is still within the last 60 seconds, so that nobody gets twice the quota around a window's edge.
 *
 * Nobody waits for Redis: a process decides by what it knows, and exchanges what it counted every 200 ms. So in the
 * first moment of a burst each process may let through what the others are just letting through, too. Without Redis it
 * counts by itself, and tells the others when it is back.
 */
export function createRateLimits({ quotas, counters, code = "TOO_MANY_UPLOADS", now = Date.now }: RateLimitSettings) {
  const policies = Object.entries(quotas).filter(([, quota]) => quota > 0).map(([name, quota]) => ({ name, quota, counts: new Map<string, Count>() }));
  const policyHeader = policies.map(({ name, quota }) => `"${name}";q=${quota};w=${WINDOW_SECONDS}`).join(", ");
  const changed = new Set<Count>();
  const process = nonce();
  let names = 0;
  const nextName = () => `${process}-${(++names).toString(36)}`;
  let exchanging = false;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  /**
   * Does the work if no policy is against it, counts it unless it throws or, later, rejects, and tells the client what is left, whatever
   * comes. Another process that learned of it before it rejected counts it until its window is over.
   * @param subjects  whom it counts for, under each policy's name
   * @param weight  as how many it counts; where one more fits, all of them do, and what is too much is missing later
   * @throws Failure of the settings' code, which counts for nobody; and what the work throws
   */
  function limited<T>(res: Response, subjects: Readonly<Record<string, string>>, work: () => T, weight = 1): T {
    if (policies.length === 0) return work();
    const counts = policies.map(({ name, counts: known }) => countOf(known, `rate:${name}:${subjects[name]}`, Math.floor(now() / WINDOW_MS), nextName));
    const { header, waitMs } = standing(counts, weight);
    res.setHeader("RateLimit-Policy", policyHeader);
    res.setHeader("RateLimit", header);
    if (waitMs > 0) throw new Failure(code, undefined, { retryAfterSeconds: Math.ceil(waitMs / 1000) });
    const tellAgain = () => !res.headersSent && res.setHeader("RateLimit", standing(counts, 0).header);
    let done: T;
    try {
      done = work();
    } catch (error) {
      tellAgain();
      throw error;
    }
    add(counts, weight);
    if (done instanceof Promise) done.catch(() => {
      add(counts, -weight);
      tellAgain();
    });
    return done;
  }

  /** What is left of each policy once `taken` more are taken, and how long to wait until one fits. */
  function standing(counts: readonly Count[], taken: number): { header: string; waitMs: number } {
    const at = now();
    let waitMs = 0;
    const header = policies.map(({ name, quota }, place) => {
      const count = counts[place]!;
      const free = quota - used(count, at);
      const policyWaitMs = free >= 1 ? 0 : untilFree(count, quota, at);
      waitMs = Math.max(waitMs, policyWaitMs);
      const resetMs = policyWaitMs || WINDOW_MS - (at % WINDOW_MS);
      return `"${name}";r=${Math.max(0, Math.floor(free) - taken)};t=${Math.ceil(resetMs / 1000)}`;
    }).join(", ");
    return { header, waitMs };
  }

  function add(counts: readonly Count[], weight: number): void {
    for (const count of counts) {
      count.own += weight;
      changed.add(count);
    }
    arm();
  }

  function arm(): void {
    if (timer || exchanging || stopped) return;
    timer = setTimeout(() => {
      timer = undefined;
      void exchange();
    }, EXCHANGE_EVERY_MS);
    timer.unref();
  }

  /** Tells the other processes what was counted here, and learns what they counted. */
  async function exchange(): Promise<void> {
    exchanging = true;
    const sent = [...changed].map((count) => ({ count, counted: count.own, reads: !count.beforeKnown }));
    changed.clear();
    const changes = sent.flatMap(({ count: { key, window, by }, counted, reads }) => [
      { key: `${key}:${window}`, by, counted }, ...(reads ? [{ key: `${key}:${window - 1}`, by, counted: undefined }] : []),
    ]);
    try {
      const totals = (await counters.exchange(changes, EXPIRE_SECONDS)).values();
      for (const { count, counted, reads } of sent) learn(count, counted, totals.next().value!, reads ? totals.next().value! : undefined);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      for (const { count } of sent) changed.add(count); // to be told again, whether it was heard or not
    } finally {
      exchanging = false;
    }
    const window = Math.floor(now() / WINDOW_MS);
    for (const { counts } of policies) forgetBefore(counts, window - 1);
    for (const count of changed) if (count.window < window - 1) changed.delete(count);
    if (changed.size > 0) arm();
  }

  function stop(): void {
    stopped = true;
    clearTimeout(timer);
  }

  return { limited, stop };
}

/** The newest stand at the end, so that those to forget stand at the beginning. */
function countOf(counts: Map<string, Count>, key: string, window: number, nextName: () => string): Count {
  const known = counts.get(key);
  if (known?.window === window) return known;
  counts.delete(key);
  const isNext = known?.window === window - 1;
  const count = { key, window, by: nextName(), own: 0, others: 0, before: isNext ? known.own + known.others : 0, beforeKnown: false };
  counts.set(key, count);
  if (counts.size > MOST_SUBJECTS) counts.delete(counts.keys().next().value!);
  return count;
}

function forgetBefore(counts: Map<string, Count>, window: number): void {
  for (const [key, count] of counts) {
    if (count.window >= window) return;
    counts.delete(key);
  }
}

function used({ before, own, others }: Count, at: number): number {
  return before * (1 - (at % WINDOW_MS) / WINDOW_MS) + own + others;
}

/** Milliseconds until one more fits, if nobody sends any until then. */
function untilFree({ before, own, others }: Count, quota: number, at: number): number {
  const elapsedMs = at % WINDOW_MS;
  const current = own + others;
  const room = quota - 1 - current;
  if (room >= 0) return Math.max(1, WINDOW_MS * (1 - room / before) - elapsedMs);
  return WINDOW_MS - elapsedMs + WINDOW_MS * (1 - (quota - 1) / current);
}

/** @param counted  what of our own is in the total */
function learn(count: Count, counted: number, total: number, before: number | undefined): void {
  count.others = Math.max(count.others, total - counted); // a Redis that was emptied knows less than we do
  if (before === undefined) return;
  count.before = Math.max(count.before, before);
  count.beforeKnown = true;
}
