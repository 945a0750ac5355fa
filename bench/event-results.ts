import { pairedRatio, type Ratio } from "./arithmetic.ts";
import type { BatchRun } from "./event-batches.ts";
import type { DoorCell, DoorRungName } from "./event-door.ts";

/** Ours to another one. */
export function doorRatio(cells: readonly DoorCell[], against: DoorRungName, clients: number): Ratio | undefined {
  const rates = (rung: DoorRungName): (number | undefined)[] => cells.find((cell) => cell.rung === rung && cell.clients === clients)?.sittings
    .map((sitting) => (sitting.failures > 0 ? undefined : sitting.perSecond)) ?? [];
  return pairedRatio(rates("ours"), rates(against));
}

/** Each kind of turn once, in the order in which they were measured. */
export function kindsOf(batches: readonly BatchRun[]): BatchRun[][] {
  const kinds = new Map<string, BatchRun[]>();
  for (const run of batches) {
    const kind = `${run.batch} ${run.withIds}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), run]);
  }
  return [...kinds.values()];
}

export function copyRatio(runs: readonly BatchRun[]): Ratio | undefined {
  return pairedRatio(runs.map((run) => (run.failure === undefined ? run.visiblePerSecond : undefined)), runs.map((run) => run.copyPerSecond));
}
