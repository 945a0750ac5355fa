import { judgeEvents } from "./goals-events.ts";
import { formatSize } from "./options.ts";
import { failuresOf, findCell, highestOf, medianOf, ratioOf, type Results } from "./results.ts";
import type { RungName } from "./rungs.ts";
import { atLeast, atMost, verdict, type Goal } from "./verdict.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const MEGABYTE = 1_000_000;
const GOAL_ROWS = 10_000_000;
/** What is in flight when the window ends keeps a worker that keeps up just below 1. */
const KEEPS_UP = 0.98;
const DOORS = ["ours-post", "ours-put"] as const;
const SPELLED: Partial<Record<RungName, string>> = {
  "ours-post": "POST",
  "ours-put": "PUT",
  multer: "Express + multer disk",
  tus: "@tus/server",
  "hash-file": "raw http + sha256 + file + fsync",
  "hash-record": "raw http + sha256 + LMDB",
};

interface RatioGoal {
  doors: readonly (typeof DOORS)[number][];
  against: RungName;
  least: number;
  ofSize: (sizeBytes: number) => boolean;
  /** Undefined: all that were measured. */
  clients?: readonly number[];
}

const is = (wanted: number) => (sizeBytes: number): boolean => sizeBytes === wanted;
const RATIO_GOALS: readonly RatioGoal[] = [
  { doors: ["ours-post"], against: "multer", least: 3, ofSize: is(KIB), clients: [16, 64] },
  { doors: ["ours-post"], against: "tus", least: 8, ofSize: is(KIB), clients: [16, 64] },
  { doors: ["ours-put"], against: "multer", least: 5, ofSize: is(KIB), clients: [16, 64] },
  { doors: ["ours-put"], against: "hash-record", least: 0.6, ofSize: is(KIB), clients: [16, 64] },
  { doors: DOORS, against: "multer", least: 1.5, ofSize: is(100 * KIB), clients: [16, 64] },
  { doors: DOORS, against: "tus", least: 4, ofSize: is(100 * KIB), clients: [16, 64] },
  { doors: DOORS, against: "hash-file", least: 0.85, ofSize: (sizeBytes) => sizeBytes >= 10 * MIB },
];

export function judgeGoals(results: Results): Goal[] {
  return [...judgeUploads(results), ...judgeWorker(results), ...judgeLatency(results), ...judgeCounts(results), ...judgeEvents(results), ...judgeMemory(results)];
}

function judgeUploads({ uploads = [] }: Results): Goal[] {
  const goals: Goal[] = [];
  for (const { doors, against, least, ofSize, clients } of RATIO_GOALS) {
    for (const door of doors) {
      const ours = uploads.filter((cell) =>
        cell.rung === door && ofSize(cell.sizeBytes) && (clients === undefined || clients.includes(cell.clients)));
      for (const cell of ours) {
        goals.push(atLeast(
          `${SPELLED[door]}, ${formatSize(cell.sizeBytes)}, ${cell.clients} client${cell.clients === 1 ? "" : "s"}`,
          `≥ ${least} × ${SPELLED[against]}`,
          least,
          ratioOf(cell, findCell(uploads, against, cell.sizeBytes, cell.clients)),
          failuresOf(cell.sittings),
        ));
      }
    }
  }
  const large = uploads.filter((cell) => cell.rung.startsWith("ours") && cell.sizeBytes >= 10 * MIB).flatMap((cell) => cell.sittings);
  goals.push(atMost("both doors, 10 MiB and 1 GiB, peak resident memory", 150, "MB", inMegabytes(highestOf(large, (sitting) => sitting.peakBytes))));
  return goals;
}

function judgeWorker({ worker = [] }: Results): Goal[] {
  return (["PUT", "POST"] as const).map((door) => {
    const runs = worker.flatMap(({ beside }) => beside.filter((run) => run.door === door));
    const failure = runs.find((run) => run.failure !== undefined)?.failure;
    const ratio = medianOf(runs, (run) => run.settledPerSecond / run.acceptedPerSecond);
    const settled = medianOf(runs, (run) => run.settledPerSecond);
    const accepted = medianOf(runs, (run) => run.acceptedPerSecond);
    return {
      subject: `worker beside the ${door} door at full speed, 1 KiB`,
      wanted: `settles ≥ ${KEEPS_UP} of what is accepted`,
      measured: failure ?? (ratio === undefined ? "–" : `${ratio.toFixed(2)} (${settled?.toFixed(0)} of ${accepted?.toFixed(0)} a second)`),
      verdict: failure !== undefined ? "missed" : verdict(ratio, (value) => value >= KEEPS_UP),
    };
  });
}

function judgeLatency({ latency = [] }: Results): Goal[] {
  return [
    atMost("acceptance to ledger, idle system, p50", 20, "ms", medianOf(latency, (round) => round.toLedger.p50Ms)),
    atMost("acceptance to ledger, idle system, p99", 100, "ms", medianOf(latency, (round) => round.toLedger.p99Ms)),
  ];
}

function judgeCounts({ counts }: Results): Goal[] {
  const clients = [...new Set(counts?.rounds.flat().map((cell) => cell.clients) ?? [1])];
  return clients.map((count) => {
    const cells = counts?.rounds.flat().filter((cell) => cell.clients === count) ?? [];
    const subject = `/api/counts on ${(counts?.rows ?? GOAL_ROWS).toLocaleString("en")} ledger rows, ${count} client${count === 1 ? "" : "s"}, p99`;
    const goal = atMost(subject, 10, "ms", medianOf(cells, (cell) => cell.p99Ms));
    const failed = cells.find((cell) => cell.failures > 0);
    if (failed !== undefined) return { ...goal, measured: failed.reasons[0] ?? "failed", verdict: "missed" };
    if (counts !== undefined && counts.rows < GOAL_ROWS) goal.wanted += ` (the goal speaks of ${GOAL_ROWS.toLocaleString("en")} rows)`;
    return goal;
  });
}

function judgeMemory({ uploads = [], worker = [], events }: Results): Goal[] {
  const doors = uploads.filter((cell) => cell.rung.startsWith("ours")).flatMap((cell) => cell.sittings);
  const beside = worker.flatMap((round) => round.beside);
  const eventDoors = events?.door?.cells.filter((cell) => cell.rung === "ours").flatMap((cell) => cell.sittings) ?? [];
  const batches = events?.batches ?? [];
  const web = [highestOf(eventDoors, (sitting) => sitting.peakAnonymousBytes), highestOf(batches, (run) => run.webAnonymousBytes), highestOf(doors, (sitting) => sitting.peakAnonymousBytes), highestOf(beside, (run) => run.webAnonymousBytes)];
  const settling = [highestOf(batches, (run) => run.workerAnonymousBytes), highestOf(worker, (round) => round.drain.peakAnonymousBytes), highestOf(beside, (run) => run.workerAnonymousBytes)];
  return [
    atMost("web, anonymous memory, worst of all loads", 256, "MB", inMegabytes(highestOf(web, (bytes) => bytes))),
    atMost("worker, anonymous memory, worst of all loads", 256, "MB", inMegabytes(highestOf(settling, (bytes) => bytes))),
  ];
}

function inMegabytes(bytes: number | undefined): number | undefined {
  return bytes === undefined ? undefined : bytes / MEGABYTE;
}
