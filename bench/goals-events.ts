import { copyRatio, doorRatio, kindsOf } from "./event-results.ts";
import { failuresOf, medianOf, type Results } from "./results.ts";
import { atLeast, atMost, verdict, type Goal } from "./verdict.ts";

const GOAL_ROWS = 10_000_000;
const LEAST_OF_BARE = 0.6;
const LEAST_EVENTS = 60_000; // a second
const LEAST_OF_COPY = 0.6;

export function judgeEvents(results: Results): Goal[] {
  return [...judgeDoor(results), ...judgeBatches(results), ...judgeStats(results)];
}

function judgeDoor({ events }: Results): Goal[] {
  const { cells, halfLoad } = events?.door ?? { cells: [], halfLoad: [] };
  const paced = halfLoad.map(({ sitting }) => sitting);
  const failed = failuresOf(paced);
  const p99 = atMost("POST /event, half as many as it takes at most, p99", 20, "ms", medianOf(paced, (sitting) => sitting.p99Ms));
  return [
    ...cells.filter(({ rung }) => rung === "ours").map(({ clients, sittings }) => atLeast(
      `POST /event, ${clients} clients`, `≥ ${LEAST_OF_BARE} × raw http + JSON.parse + XADD`, LEAST_OF_BARE,
      doorRatio(cells, "parse-append", clients), failuresOf(sittings))),
    failed === undefined ? p99 : { ...p99, measured: failed, verdict: "missed" },
  ];
}

/** Those whose events have no ids; either of the two ways to reach it will do. */
function judgeBatches({ events }: Results): Goal[] {
  return kindsOf((events?.batches ?? []).filter((run) => !run.withIds)).map((runs) => {
    const failure = runs.find((run) => run.failure !== undefined)?.failure;
    const rate = medianOf(runs, (run) => run.visiblePerSecond);
    const ratio = copyRatio(runs);
    return {
      subject: `POST /events, batches of ${runs[0]!.batch.toLocaleString("en")}, to visible in the database`,
      wanted: `≥ ${LEAST_EVENTS.toLocaleString("en")} a second, or ≥ ${LEAST_OF_COPY} × COPY`,
      measured: failure ?? `${rate?.toFixed(0)} a second, ${ratio?.median.toFixed(2)} × COPY`,
      verdict: failure !== undefined ? "missed" : verdict(rate, (found) => found >= LEAST_EVENTS || (ratio?.median ?? 0) >= LEAST_OF_COPY),
    };
  });
}

function judgeStats({ events }: Results): Goal[] {
  const { rows = GOAL_ROWS, rounds = [] } = events?.stats ?? {};
  const cells = rounds.flat().filter((cell) => cell.question === "day" && cell.clients === 1);
  const goal = atMost(`/stats of a day on ${rows.toLocaleString("en")} events, 1 client, p99`, 10, "ms", medianOf(cells, (cell) => cell.p99Ms));
  const failed = cells.find((cell) => cell.failures > 0);
  if (failed !== undefined) return [{ ...goal, measured: failed.reasons[0] ?? "failed", verdict: "missed" }];
  if (rows < GOAL_ROWS) goal.wanted += ` (the goal speaks of ${GOAL_ROWS.toLocaleString("en")} events)`;
  return [goal];
}
