import type { Clock } from "../../core/clock.ts";
import type { Db } from "../../db/pool.ts";
import { SLICE_MS } from "../../stream/slices.ts";
import { describePoints, type LiveHistory } from "./live-history.ts";
import * as queries from "./history-queries.ts";

/** How far a chart reaches back, and how long each of its buckets is. Those of minutes are of Redis, the others of the database. */
const LONG = {
  "24h": { seconds: 86_400, bucketSeconds: 900 },
  "30d": { seconds: 30 * 86_400, bucketSeconds: 21_600 },
} as const;
export type LongRange = keyof typeof LONG;
export const RANGES = ["15m", "24h", "30d"] as const;

const FRESH_MS = 15_000;
const MOST_FAILED = 100_000;

export type History = ReturnType<typeof createHistory>;

/** What the charts show. Who asks for a range while it is being read, or soon after, gets that reading. */
export function createHistory({ db, live, clock }: { db: Db; live: LiveHistory; clock: Clock }) {
  const kept = new Map<LongRange, { until: number; read: Promise<ReturnType<typeof describe>> }>();

  /** @throws Unavailable */
  async function history(range: (typeof RANGES)[number]) {
    if (range !== "15m") return longHistory(range);
    await live.refresh();
    return { range, every_seconds: SLICE_MS / 1000, as_of: clock.now(), ...describePoints(live.last()) };
  }

  function longHistory(range: LongRange) {
    const found = kept.get(range);
    if (found && performance.now() < found.until) return found.read;
    const read = readLong(range);
    const entry = { until: performance.now() + FRESH_MS, read };
    kept.set(range, entry);
    read.catch(() => kept.get(range) === entry && kept.delete(range));
    return read;
  }

  async function readLong(range: LongRange) {
    const { seconds, bucketSeconds } = LONG[range];
    const now = clock.now();
    const bucketMs = bucketSeconds * 1000;
    const since = new Date((Math.floor(now.getTime() / bucketMs) + 1) * bucketMs - seconds * 1000);
    const [stored, failed] = await Promise.all([
      queries.selectStored(db, since, bucketSeconds), queries.selectFailed(db, since, bucketSeconds, MOST_FAILED),
    ]);
    return describe(range, now, since, stored, failed);
  }

  return { history };
}

function describe(range: LongRange, asOf: Date, since: Date, stored: queries.StoredBucket[], failed: { beginsAt: Date; uploads: number }[] | undefined) {
  const { seconds, bucketSeconds } = LONG[range];
  const at = Array.from({ length: seconds / bucketSeconds }, (_, i) => since.getTime() + i * bucketSeconds * 1000);
  const byTime = new Map(stored.map((bucket) => [bucket.beginsAt.getTime(), bucket]));
  const failures = failed && new Map(failed.map(({ beginsAt, uploads }) => [beginsAt.getTime(), uploads]));
  return {
    range, every_seconds: bucketSeconds, as_of: asOf, at,
    stored: at.map((begins) => byTime.get(begins)?.files ?? 0),
    stored_bytes: at.map((begins) => byTime.get(begins)?.sizeBytes ?? 0),
    failed: at.map((begins) => (failures ? failures.get(begins) ?? 0 : null)),
  };
}
