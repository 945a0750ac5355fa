import { judgeGoals } from "./goals.ts";
import type { Machine } from "./machine.ts";
import { formatSize } from "./options.ts";
import { failuresOf, findCell, highestOf, medianOf, ratioOf, type Results } from "./results.ts";
import type { ProfileLine } from "./profile.ts";
import { COMPETITORS, OURS } from "./rungs.ts";
import { eventTables } from "./report-events.ts";
import type { Goal } from "./verdict.ts";
import { decimal, megabytes, NOTHING, spread, table } from "./table.ts";
import type { UploadCell } from "./uploads.ts";
import type { WorkerRound } from "./worker.ts";

const MEGABYTE = 1_000_000;

/** The whole run as Markdown whose tables are aligned, so that it reads the same in a terminal. */
export function writeReport(results: Results): string {
  const parts = [
    `# Bench of ${results.machine.date}, commit ${results.machine.commit}`,
    "Only the ratios carry over to other machines. Rates are medians of the rounds; a ratio is taken within each round " +
      "and its median shown.",
    describe(results.machine),
  ];
  if (results.uploads !== undefined) parts.push("## Uploads", ...uploadTables(results.uploads));
  if (results.worker !== undefined) parts.push("## Worker", ...workerTables(results.worker));
  if (results.latency !== undefined) parts.push("## From acceptance to the ledger, idle system", latencyTable(results));
  if (results.counts !== undefined) parts.push("## /api/counts", countsTable(results));
  if (results.events !== undefined) parts.push("## Events", ...eventTables(results.events));
  for (const { name, places, functions } of results.profiles ?? []) {
    parts.push(`## Profile: ${name}`, profileTable("place", places), profileTable("function", functions));
  }
  if (results.problems.length > 0) parts.push("## Problems", results.problems.map((problem) => `- ${problem}`).join("\n"));
  const goals = judgeGoals(results).filter((goal) => goal.verdict !== "not measured");
  if (goals.length > 0) parts.push("## Goals", goalsTable(goals));
  return `${parts.join("\n\n")}\n`;
}

function describe(machine: Machine): string {
  return table(["what", "here"], [
    ["command", `\`${machine.command}\``],
    ["machine", `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGib} GiB, ${machine.system}`],
    ["disk", `${machine.disk}; fdatasync of 4 KiB ${machine.syncMs.toFixed(2)} ms`],
    ["Node", machine.node],
    ["Redis", machine.redis],
    ["PostgreSQL", machine.postgres],
    ["load before", machine.loadBefore.toFixed(2)],
  ]);
}

function uploadTables(cells: readonly UploadCell[]): string[] {
  const tables: string[] = [];
  const kinds = new Map(cells.map((cell) => [`${cell.sizeBytes} ${cell.clients}`, cell]));
  for (const { sizeBytes, clients } of kinds.values()) {
    const row = cells.filter((cell) => cell.sizeBytes === sizeBytes && cell.clients === clients);
    tables.push(`### ${formatSize(sizeBytes)}, ${clients} client${clients === 1 ? "" : "s"}`, uploadTable(row));
    const ratios = ratioTable(cells, sizeBytes, clients);
    if (ratios !== undefined) tables.push(ratios);
  }
  return tables;
}

function uploadTable(row: readonly UploadCell[]): string {
  const head = ["server", "uploads/s", "MB/s", "p50 ms", "p99 ms", "CPU ms each", "Redis CPU", "peak MB", "anonymous MB", "generator"];
  return table(head, row.map((cell) => {
    const failure = failuresOf(cell.sittings);
    if (failure !== undefined) return [cell.label, `FAILED: ${failure.slice(0, 100).replaceAll("|", "/")}`];
    const rate = medianOf(cell.sittings, (sitting) => sitting.perSecond);
    return [
      cell.label,
      rate === undefined ? NOTHING : rate.toFixed(rate < 100 ? 1 : 0),
      decimal(rate === undefined ? undefined : (rate * cell.sizeBytes) / MEGABYTE, 1),
      decimal(medianOf(cell.sittings, (sitting) => sitting.p50Ms), 2),
      decimal(medianOf(cell.sittings, (sitting) => sitting.p99Ms), 2),
      decimal(medianOf(cell.sittings, (sitting) => sitting.cpuMs), 3),
      decimal(medianOf(cell.sittings, (sitting) => sitting.redisCpuMs), 3),
      megabytes(highestOf(cell.sittings, (sitting) => sitting.peakBytes)),
      megabytes(highestOf(cell.sittings, (sitting) => sitting.peakAnonymousBytes)),
      `${((medianOf(cell.sittings, (sitting) => sitting.generatorCores) ?? 0) * 100).toFixed(0)} %`,
    ];
  }));
}

function ratioTable(cells: readonly UploadCell[], sizeBytes: number, clients: number): string | undefined {
  const others = COMPETITORS.flatMap((rung) => findCell(cells, rung, sizeBytes, clients) ?? []);
  const rows = OURS.flatMap((rung) => {
    const ours = findCell(cells, rung, sizeBytes, clients);
    if (ours === undefined) return [];
    return [[ours.label, ...others.map((other) => spread(ratioOf(ours, other)))]];
  });
  return rows.length === 0 || others.length === 0 ? undefined : table(["times as fast as", ...others.map((other) => other.label)], rows);
}

function workerTables(rounds: readonly WorkerRound[]): string[] {
  const of = (pick: (round: WorkerRound) => number | undefined): number | undefined => medianOf(rounds, pick);
  const share = (pick: (round: WorkerRound) => number | undefined): string =>
    decimal(of((round) => {
      const limit = pick(round);
      return limit === undefined ? undefined : round.drain.settledPerSecond / limit;
    }), 2);
  const failure = rounds.find((round) => round.drain.failure !== undefined)?.drain.failure;
  const speeds: [string, (round: WorkerRound) => number | undefined][] = [
    ["stream alone: XREADGROUP, XACK + XDEL, 500 at a time", (round) => round.stream.readPerSecond],
    ["stream alone: XADD, pipelined", (round) => round.stream.addedPerSecond],
    ["redis-benchmark: XADD, 16 to a pipeline", (round) => round.redisBenchmarkPerSecond],
    ["set-based insert into both tables, 500 rows each", (round) => round.inserts[500]],
    ["set-based insert into both tables, 1,000 rows each", (round) => round.inserts[1000]],
    ["the door, filling the stream (64 clients)", (round) => round.drain.acceptedPerSecond],
  ];
  const drain = table(["1 KiB uploads", "a second", "the worker is, of it"], [
    ["**worker, door shut**", failure === undefined ? decimal(of((round) => round.drain.settledPerSecond), 0) : `FAILED: ${failure}`, ""],
    ...speeds.map(([name, pick]) => [name, decimal(of(pick), 0), share(pick)]),
  ]);
  const cost = table(["CPU ms for one upload", "worker", "Redis", "PostgreSQL", "worker anonymous MB"], [[
    "door shut",
    decimal(of((round) => round.drain.workerCpuMs), 3),
    decimal(of((round) => round.drain.redisCpuMs), 3),
    decimal(of((round) => round.drain.postgresCpuMs), 3),
    megabytes(highestOf(rounds, (round) => round.drain.peakAnonymousBytes)),
  ]]);
  const head = ["both at once, 10 s, 64 clients", "accepted/s", "p50 ms", "p99 ms", "settled/s", "backlog", "caught up after ms", "CPU ms web", "worker", "Redis", "PostgreSQL"];
  const beside = table(head, (["PUT", "POST"] as const).map((door) => {
    const runs = rounds.flatMap((round) => round.beside.filter((run) => run.door === door));
    const failed = runs.find((run) => run.failure !== undefined)?.failure;
    if (failed !== undefined) return [door, `FAILED: ${failed}`];
    const figures: [(run: (typeof runs)[number]) => number | undefined, number][] = [
      [(run) => run.acceptedPerSecond, 0], [(run) => run.p50Ms, 2], [(run) => run.p99Ms, 2], [(run) => run.settledPerSecond, 0],
      [(run) => run.backlog, 0], [(run) => run.catchUpMs, 0], [(run) => run.webCpuMs, 3], [(run) => run.workerCpuMs, 3],
      [(run) => run.redisCpuMs, 3], [(run) => run.postgresCpuMs, 3],
    ];
    return [door, ...figures.map(([pick, digits]) => decimal(medianOf(runs, pick), digits))];
  }));
  return [drain, cost, beside];
}

function latencyTable({ latency = [] }: Results): string {
  const rows: [string, "accept" | "toLedger" | "afterAnswer" | "recorded"][] = [
    ["request to 202", "accept"],
    ["event_time to visible in the ledger (the goal's)", "toLedger"],
    ["202 to visible in the ledger", "afterAnswer"],
    ["the ledger's own settled_at - event_time", "recorded"],
  ];
  return table(["1 KiB, one at a time, 20 a second", "p50 ms", "p99 ms", "worst ms"], rows.map(([name, key]) => [
    name,
    decimal(medianOf(latency, (round) => round[key].p50Ms), 1),
    decimal(medianOf(latency, (round) => round[key].p99Ms), 1),
    decimal(highestOf(latency, (round) => round[key].maxMs), 1),
  ]));
}

function countsTable({ counts }: Results): string {
  const cells = counts?.rounds.flat() ?? [];
  const clients = [...new Set(cells.map((cell) => cell.clients))];
  return table([`${counts?.rows.toLocaleString("en")} ledger rows`, "answers/s", "p50 ms", "p99 ms"], [
    ...clients.map((count) => {
      const ofCount = cells.filter((cell) => cell.clients === count);
      return [
        `${count} client${count === 1 ? "" : "s"}`,
        decimal(medianOf(ofCount, (cell) => cell.perSecond), 0),
        decimal(medianOf(ofCount, (cell) => cell.p50Ms), 2),
        decimal(medianOf(ofCount, (cell) => cell.p99Ms), 2),
      ];
    }),
    ["select count(*), once", "", decimal(counts?.countingMs, 0), ""],
  ]);
}

function goalsTable(goals: readonly Goal[]): string {
  return table(["goal", "wanted", "measured", ""], goals.map((goal) => [
    goal.subject, goal.wanted, goal.measured.slice(0, 100).replaceAll("|", "/"), goal.verdict === "missed" ? "**missed**" : goal.verdict,
  ]));
}

function profileTable(title: string, lines: readonly ProfileLine[]): string {
  const rows = lines.map(({ where, selfMs, share }) => [where, selfMs.toFixed(0), (share * 100).toFixed(1)]);
  return table([title, "ms itself", "% of its time"], rows);
}
