import type { Clock } from "../../core/clock.ts";
import { SLICE_MS, sliceOf, type Slices } from "../../stream/slices.ts";
import { mergeInto, percentiles, type Histogram } from "./latency.ts";
import { readWord, TELL_EVERY_MS } from "./meter.ts";

/** The system's figures of a slice of time. Null: nobody counted then, or there was nothing to measure. */
export interface Point {
  /** When the slice began, milliseconds since 1970. */
  at: number;
  accepted: number | null;
  acceptedBytes: number | null;
  settled: number | null;
  settledBytes: number | null;
  failed: number | null;
  queue: number | null;
  latency: Histogram;
}

const LOOK_BACK_MS = 900_000;
const LOOK_AGAIN_MS = 60_000; // processes that could not tell in time tell later; most do within this
const FORGET_MS = 30_000; // not looked for so long: all of it is read again
const RATE_MS = 2 * SLICE_MS;
const ALL_TOLD_MS = 2 * TELL_EVERY_MS; // after its end every process that can tell has told all of a slice
const LATENCY_MS = 300_000;

export type LiveHistory = ReturnType<typeof createLiveHistory>;

/** The last quarter of an hour, as all processes together told it: read from Redis once, then kept up while somebody looks. */
export function createLiveHistory({ slices, clock }: { slices: Pick<Slices, "read">; clock: Clock }) {
  const points = new Map<number, Point>();
  let readAt = Number.NEGATIVE_INFINITY;

  /** Brings the points up to date. @throws Unavailable */
  async function refresh(): Promise<void> {
    const now = clock.now().getTime();
    const known = now - readAt < FORGET_MS && now >= readAt;
    const since = sliceOf(now - (known ? LOOK_AGAIN_MS : LOOK_BACK_MS));
    const words = await slices.read(since, now + SLICE_MS);
    if (!known) points.clear();
    for (const [at, said] of words) points.set(at, add(at, said));
    for (const at of points.keys()) if (at < sliceOf(now - LOOK_BACK_MS)) points.delete(at);
    readAt = now;
  }

  function forget(): void {
    points.clear();
    readAt = Number.NEGATIVE_INFINITY;
  }

  /** Every slice of the last so many milliseconds, oldest first, also those of which nothing is known. */
  function last(ms = LOOK_BACK_MS): Point[] {
    const until = sliceOf(readAt);
    const found: Point[] = [];
    if (!Number.isFinite(readAt)) return found;
    for (let at = sliceOf(readAt - ms) + SLICE_MS; at <= until; at += SLICE_MS) found.push(points.get(at) ?? unknown(at));
    return found;
  }

  /** A second, over the newest two slices of which all is told: a part of a slice would be divided by more than it covers. */
  function rates() {
    const until = sliceOf(readAt - ALL_TOLD_MS);
    const some = last(2 * RATE_MS).filter(({ at }) => at < until && at >= until - RATE_MS);
    const from = some.findIndex(({ accepted }) => accepted !== null);
    if (from < 0) return { accepted: null, acceptedBytes: null, settled: null };
    const seconds = (until - some[from]!.at) / 1000;
    const rate = (pick: (point: Point) => number | null) => Math.round((sum(some.slice(from), pick) / seconds) * 10) / 10;
    return { accepted: rate((point) => point.accepted), acceptedBytes: Math.round(rate((point) => point.acceptedBytes)), settled: rate((point) => point.settled) };
  }

  /** From acceptance to the ledger, and attempts that failed, over the last five minutes. */
  function recent() {
    const some = last(LATENCY_MS);
    const latency: Histogram = {};
    for (const point of some) mergeInto(latency, point.latency);
    const known = some.some(({ failed }) => failed !== null);
    return { ...percentiles(latency, [0.5, 0.95, 0.99]), failed: known ? sum(some, (point) => point.failed) : null };
  }

  return { refresh, forget, last, rates, recent };
}

function add(at: number, said: readonly string[]): Point {
  const words = said.flatMap((text) => readWord(text) ?? []);
  const queues = words.flatMap(({ q }) => q ?? []);
  const latency: Histogram = {};
  for (const { l } of words) mergeInto(latency, l as Histogram);
  return {
    at, accepted: sum(words, ({ a }) => a), acceptedBytes: sum(words, ({ ab }) => ab), settled: sum(words, ({ s }) => s), settledBytes: sum(words, ({ sb }) => sb),
    failed: sum(words, ({ f }) => f), queue: queues.length > 0 ? Math.max(...queues) : null, latency,
  };
}

function unknown(at: number): Point {
  return { at, accepted: null, acceptedBytes: null, settled: null, settledBytes: null, failed: null, queue: null, latency: {} };
}

function sum<T>(items: readonly T[], pick: (item: T) => number | null): number {
  return items.reduce((total, item) => total + (pick(item) ?? 0), 0);
}

/** As the API shows points: a list for each figure, as charts take them. */
export function describePoints(points: readonly Point[]) {
  const shares = points.map(({ latency }) => percentiles(latency, [0.5, 0.95]));
  return {
    at: points.map(({ at }) => at),
    accepted: points.map(({ accepted }) => accepted),
    accepted_bytes: points.map(({ acceptedBytes }) => acceptedBytes),
    settled: points.map(({ settled }) => settled),
    settled_bytes: points.map(({ settledBytes }) => settledBytes),
    failed: points.map(({ failed }) => failed),
    queue: points.map(({ queue }) => queue),
    p50_ms: shares.map((share) => share[0.5]),
    p95_ms: shares.map((share) => share[0.95]),
  };
}
