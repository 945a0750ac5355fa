import type { BatchRun } from "./event-batches.ts";
import type { DoorCell, DoorResult, DoorRungName } from "./event-door.ts";
import { copyRatio, doorRatio, kindsOf } from "./event-results.ts";
import type { EventStatsResult, StatsQuestion } from "./event-stats.ts";
import type { EventsResult } from "./events.ts";
import { failuresOf, highestOf, medianOf } from "./results.ts";
import type { Sitting } from "./sitting.ts";
import { decimal, megabytes, NOTHING, spread, table } from "./table.ts";

const RUNGS: readonly DoorRungName[] = ["parse-append", "parse"];
const QUESTIONS: Record<StatsQuestion, string> = {
  day: "/stats of a day", "day-in-zone": "/stats of a day, tz=Europe/Berlin", series: "/stats/series, 30 days",
};

export function eventTables({ door, batches, stats }: EventsResult): string[] {
  return [
    ...(door === undefined ? [] : ["### POST /event", doorTable(door), doorRatios(door.cells)]),
    ...(batches === undefined || batches.length === 0 ? [] : ["### POST /events, until the last one is visible", batchTable(batches), batchCosts(batches)]),
    ...(stats === undefined ? [] : ["### /stats", statsTable(stats)]),
  ];
}

function doorTable({ cells, halfLoad }: DoorResult): string {
  const head = ["server", "events/s", "p50 ms", "p99 ms", "CPU ms each", "Redis CPU", "anonymous MB", "generator"];
  const row = (label: string, sittings: readonly Sitting[]): string[] => {
    const failure = failuresOf(sittings);
    if (failure !== undefined) return [label, `FAILED: ${failure.slice(0, 100).replaceAll("|", "/")}`];
    return [
      label,
      decimal(medianOf(sittings, (sitting) => sitting.perSecond), 0),
      decimal(medianOf(sittings, (sitting) => sitting.p50Ms), 2),
      decimal(medianOf(sittings, (sitting) => sitting.p99Ms), 2),
      decimal(medianOf(sittings, (sitting) => sitting.cpuMs), 3),
      decimal(medianOf(sittings, (sitting) => sitting.redisCpuMs), 3),
      megabytes(highestOf(sittings, (sitting) => sitting.peakAnonymousBytes)),
      `${((medianOf(sittings, (sitting) => sitting.generatorCores) ?? 0) * 100).toFixed(0)} %`,
    ];
  };
  const asked = medianOf(halfLoad, ({ askedPerSecond }) => askedPerSecond);
  return table(head, [
    ...cells.map(({ label, clients, sittings }) => row(`${label}, ${clients} clients`, sittings)),
    ...(halfLoad.length === 0 ? [] : [
      row(`ConnectStorm, ${asked?.toFixed(0)} a second come, half of its most`, halfLoad.map(({ sitting }) => sitting)),
      row("raw http: JSON.parse, XADD, as many", halfLoad.map(({ bare }) => bare)),
    ]),
  ]);
}

function doorRatios(cells: readonly DoorCell[]): string {
  const clients = [...new Set(cells.map((cell) => cell.clients))];
  const labels = RUNGS.map((rung) => cells.find((cell) => cell.rung === rung)?.label ?? rung);
  return table(["ConnectStorm, times as fast as", ...labels], clients.map((count) =>
    [`${count} clients`, ...RUNGS.map((rung) => spread(doorRatio(cells, rung, count)))]));
}

function nameOf({ batch, withIds }: BatchRun): string {
  return `batches of ${batch.toLocaleString("en")}${withIds ? ", each with an event_id" : ""}`;
}

function batchTable(batches: readonly BatchRun[]): string {
  const head = ["16 clients", "visible/s", "COPY/s", "of COPY", "accepted/s", "p50 ms", "p99 ms", "events", "caught up after ms"];
  return table(head, kindsOf(batches).map((runs) => {
    const failure = runs.find((run) => run.failure !== undefined)?.failure;
    if (failure !== undefined) return [nameOf(runs[0]!), `FAILED: ${failure.slice(0, 200).replaceAll("|", "/")}`];
    return [
      nameOf(runs[0]!),
      decimal(medianOf(runs, (run) => run.visiblePerSecond), 0),
      decimal(medianOf(runs, (run) => run.copyPerSecond), 0),
      spread(copyRatio(runs)),
      decimal(medianOf(runs, (run) => run.acceptedPerSecond), 0),
      decimal(medianOf(runs, (run) => run.p50Ms), 1),
      decimal(medianOf(runs, (run) => run.p99Ms), 1),
      decimal(medianOf(runs, (run) => run.events), 0),
      decimal(medianOf(runs, (run) => run.catchUpMs), 0),
    ];
  }));
}

function batchCosts(batches: readonly BatchRun[]): string {
  const head = ["CPU ms for 1,000 events", "web", "worker", "Redis", "PostgreSQL", "generator, of a core", "web anonymous MB", "worker anonymous MB"];
  return table(head, kindsOf(batches).map((runs) => [
    nameOf(runs[0]!),
    decimal(medianOf(runs, (run) => run.webCpuMs), 2),
    decimal(medianOf(runs, (run) => run.workerCpuMs), 2),
    decimal(medianOf(runs, (run) => run.redisCpuMs), 2),
    decimal(medianOf(runs, (run) => run.postgresCpuMs), 2),
    `${((medianOf(runs, (run) => run.generatorCores) ?? 0) * 100).toFixed(0)} %`,
    megabytes(highestOf(runs, (run) => run.webAnonymousBytes)),
    megabytes(highestOf(runs, (run) => run.workerAnonymousBytes)),
  ]));
}

function statsTable({ rows, countingMs, rounds }: EventStatsResult): string {
  const cells = rounds.flat();
  const kinds = new Map(cells.map((cell) => [`${cell.question} ${cell.clients}`, cell]));
  return table([`${rows.toLocaleString("en")} events`, "clients", "answers/s", "p50 ms", "p99 ms"], [
    ...[...kinds.values()].map(({ question, clients }) => {
      const ofKind = cells.filter((cell) => cell.question === question && cell.clients === clients);
      const failed = ofKind.find((cell) => cell.failures > 0);
      if (failed !== undefined) return [QUESTIONS[question], String(clients), `FAILED: ${(failed.reasons[0] ?? "").slice(0, 100).replaceAll("|", "/")}`];
      return [
        QUESTIONS[question], String(clients), decimal(medianOf(ofKind, (cell) => cell.perSecond), 0),
        decimal(medianOf(ofKind, (cell) => cell.p50Ms), 2), decimal(medianOf(ofKind, (cell) => cell.p99Ms), 2),
      ];
    }),
    ["the largest site's day by counting its events, once", "", NOTHING, decimal(countingMs, 0), ""],
  ]);
}
