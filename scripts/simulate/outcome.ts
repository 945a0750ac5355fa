import type { Album, Picture } from "./album.ts";
import { judge, type Figures, type Verdict } from "./expectations.ts";
import { LATE_MS } from "./load-models.ts";
import type { Options } from "./options.ts";
import type { Missing, Receipts } from "./receipts.ts";
import { STEPS, type Step, type Tally } from "./tally.ts";

export interface StepFigures {
  step: Step;
  count: number;
  p50: number | undefined;
  p95: number | undefined;
  p99: number | undefined;
  largest: number | undefined;
}

/** All that a run has to say, for the terminal and the report. */
export interface Outcome {
  startedAt: Date;
  options: Options;
  stopped: boolean;
  /** Of the load; looking receipts up may go on after it. */
  elapsedMs: number;
  tally: Tally;
  figures: Figures;
  steps: StepFigures[];
  receipts: { receipts: number; stored: number; failed: number; wrong: number; missing: number; failedReasons: Map<string, number>; named: Missing[] };
  /** Arrivals that had to wait for a place; undefined in the closed model. */
  late: { count: number; p95: number | undefined; largest: number | undefined } | undefined;
  verdicts: Verdict[];
  pictures: readonly Picture[];
  /** Users for whom something failed, and of whom there is no picture. */
  unseen: number;
  /** What the driver and the machine are. */
  facts: [name: string, value: string][];
}

export function concludeRun({ startedAt, options, stopped, tally, receipts, missing, album, facts }: {
  startedAt: Date;
  options: Options;
  stopped: boolean;
  tally: Tally;
  receipts: Receipts;
  missing: { count: number; named: Missing[] };
  album: Album;
  facts: [string, string][];
}): Outcome {
  const { counts } = tally, found = receipts.counts;
  const elapsedMs = tally.elapsedMs(), seconds = elapsedMs / 1000;
  const lateCount = tally.lateness.values().reduce((sum, [ms, times]) => sum + (ms > LATE_MS ? times : 0), 0);
  const figures: Figures = {
    attempted: counts.attempted, received: counts.received, errors: counts.errors,
    accounted: found.stored + found.failed, receipts: found.receipts,
    late: lateCount, arrivals: counts.arrivals,
    uploadsPerSecond: seconds > 0 ? counts.received / seconds : 0, bytesPerSecond: seconds > 0 ? counts.bytes / seconds : 0,
    percentile: (step, percent) => tally.steps[step].percentile(percent),
  };
  return {
    startedAt, options, stopped, elapsedMs, tally, figures, facts,
    pictures: album.pictures, unseen: album.unseen(),
    steps: STEPS.filter((step) => step !== "page" || options.driver === "browser").map((step) => {
      const of = tally.steps[step];
      return { step, count: of.count(), p50: of.percentile(50), p95: of.percentile(95), p99: of.percentile(99), largest: of.largest() };
    }),
    receipts: { receipts: found.receipts, stored: found.stored, failed: found.failed, wrong: found.wrong, missing: missing.count, failedReasons: receipts.failedReasons, named: missing.named },
    late: options.arrivalsPerSecond === undefined ? undefined : { count: lateCount, p95: tally.lateness.percentile(95), largest: tally.lateness.largest() },
    verdicts: judge(options.expectations, figures),
  };
}

/** Who came, in words. */
export function describeLoad({ driver, users, repeats, arrivalsPerSecond, durationMs }: Options): string {
  const who = driver === "browser" ? "user" : "client";
  if (arrivalsPerSecond !== undefined) return `${trim(arrivalsPerSecond)} ${who}s a second arriving for ${trim(durationMs! / 1000)} s, at most ${users} at once`;
  const often = repeats === undefined ? "" : `, ${repeats} ${repeats === 1 ? "visit" : "visits"} each`;
  return `${users} ${who}${users === 1 ? "" : "s"}${often}${durationMs === undefined ? "" : `, for ${repeats === undefined ? "" : "at most "}${trim(durationMs / 1000)} s`}`;
}

function trim(value: number): string {
  return String(Number(value.toFixed(2)));
}
