import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { orNull } from "../core/or-null.ts";
import { within } from "../core/within.ts";
import type { Db } from "../db/pool.ts";
import type { TimeSeriesKind } from "../db/time-series.ts";
import { backlogLength } from "../stream/backlog.ts";
import * as queries from "./queries.ts";

/** The system's figures. Null: the dependency that knows it does not answer. */
export interface Counts {
  /** Entries of the stream: waiting or being worked on. */
  redis: number | null;
  /** Rows of the ledger. */
  timescale: number | null;
  /** Bytes of all stored files; the same bytes handed in twice count twice. */
  storedBytes: number | null;
  /** Rows a second, over the last ten seconds or so. */
  rate: number | null;
  deadLetters: number | null;
  /** Stored objects that are known to be damaged. */
  damaged: number | null;
  uptimeSeconds: number;
  timestamp: Date;
  /** Null: the database was not there yet to say. */
  ledger: TimeSeriesKind | null;
  /** Dependencies that do not answer. */
  degraded: string[];
}

export interface CountsSettings {
  db: Db;
  redis: Redis;
  stream: string;
  ledger: () => TimeSeriesKind | null;
  clock: Clock;
}

const RATE_WINDOW_MS = 10_000;
const SAMPLE_EVERY_MS = 1_000;
const DATABASE_BUDGET_MS = 3_000;

interface Sample {
  at: number;
  records: number;
}

export type CountsReader = ReturnType<typeof createCounts>;

/** Neither figure is counted on demand: the stream knows its length, and settling keeps the ledger's totals. */
export function createCounts({ db, redis, stream, ledger, clock }: CountsSettings) {
  const startedAt = clock.now().getTime();
  const samples: Sample[] = [];
  let reading: Promise<Counts> | undefined;
  let sampling: NodeJS.Timeout | undefined;
  let wantedAt = 0;

  /** Who asks while a reading is under way gets that reading: a thousand dashboards cost as much as one. */
  function counts(): Promise<Counts> {
    wantedAt = clock.now().getTime();
    sampling ??= setInterval(sample, SAMPLE_EVERY_MS).unref();
    return readShared();
  }

  function readShared(): Promise<Counts> {
    return (reading ??= read().finally(() => (reading = undefined)));
  }

  /** Keeps the rate honest between two questions; stops when nobody has asked for a while. */
  function sample(): void {
    if (clock.now().getTime() - wantedAt > 60_000) return stop();
    readShared().catch(() => {}); // whoever asks next is told
  }

  function stop(): void {
    clearInterval(sampling);
    sampling = undefined;
    samples.length = 0;
  }

  async function read(): Promise<Counts> {
    const degraded: string[] = [];
    const [backlog, totals] = await Promise.all([
      orNull(backlogLength(redis, stream), degraded),
      orNull(within(DATABASE_BUDGET_MS, "postgres", queries.selectTotals(db)), degraded),
    ]);
    const now = clock.now();
    return {
      redis: backlog,
      timescale: totals && totals.records,
      storedBytes: totals && totals.sizeBytes,
      rate: totals && rateOf({ at: now.getTime(), records: totals.records }),
      deadLetters: totals && totals.deadLetters,
      damaged: totals && totals.damaged,
      uptimeSeconds: Math.round((now.getTime() - startedAt) / 1000),
      timestamp: now,
      ledger: ledger(),
      degraded,
    };
  }

  function rateOf(latest: Sample): number {
    samples.push(latest);
    while (samples.length > 2 && samples[0]!.at < latest.at - RATE_WINDOW_MS) samples.shift();
    const first = samples[0]!;
    if (latest.at - first.at < 200) return 0; // too short a time to tell
    return Math.max(0, Math.round(((latest.records - first.records) / (latest.at - first.at)) * 10_000) / 10);
  }

  return { counts, stop };
}

/** The seed's three figures and ours, as the API shows them. */
export function describeCounts(counts: Counts) {
  return {
    redis: counts.redis,
    timescale: counts.timescale,
    timestamp: counts.timestamp,
    rate: counts.rate,
    dead_letters: counts.deadLetters,
    damaged: counts.damaged,
    uptime_seconds: counts.uptimeSeconds,
    ledger: counts.ledger,
    degraded: counts.degraded,
  };
}
