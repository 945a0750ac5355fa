import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { median, pairedRatio, type Ratio } from "./arithmetic.ts";
import type { CountsResult } from "./counts.ts";
import type { EventsResult } from "./events.ts";
import type { LatencyRound } from "./latency.ts";
import type { Machine } from "./machine.ts";
import type { Profile } from "./profile.ts";
import type { Sitting } from "./sitting.ts";
import type { UploadCell } from "./uploads.ts";
import type { WorkerRound } from "./worker.ts";

/** All that a run measured; the parts that were not asked for are absent. */
export interface Results {
  machine: Machine;
  uploads?: UploadCell[];
  worker?: WorkerRound[];
  latency?: LatencyRound[];
  counts?: CountsResult;
  events?: EventsResult;
  profiles?: Profile[];
  /** What could not be measured, in words. A run goes on without it, and ends with exit code 1. */
  problems: string[];
}

/** A sitting with failures has no figures worth a ratio. */
export function ratesOf(cell: UploadCell): (number | undefined)[] {
  return cell.sittings.map((sitting) => (sitting.failures > 0 ? undefined : sitting.perSecond));
}

export function ratioOf(ours: UploadCell | undefined, theirs: UploadCell | undefined): Ratio | undefined {
  if (ours === undefined || theirs === undefined) return undefined;
  return pairedRatio(ratesOf(ours), ratesOf(theirs));
}

export function findCell(cells: readonly UploadCell[], rung: string, sizeBytes: number, clients: number): UploadCell | undefined {
  return cells.find((cell) => cell.rung === rung && cell.sizeBytes === sizeBytes && cell.clients === clients);
}

/** The median over the rounds that have the figure; undefined when none has. */
export function medianOf<T>(rounds: readonly T[], pick: (round: T) => number | undefined): number | undefined {
  const values = rounds.map(pick).filter((value) => value !== undefined && !Number.isNaN(value));
  return values.length === 0 ? undefined : median(values as number[]);
}

/** The highest of all rounds: a limit on memory is one on the worst moment. */
export function highestOf<T>(rounds: readonly T[], pick: (round: T) => number | undefined): number | undefined {
  const values = rounds.map(pick).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : Math.max(...(values as number[]));
}

export function failuresOf(sittings: readonly Sitting[]): string | undefined {
  const failed = sittings.find((sitting) => sitting.failures > 0);
  return failed === undefined ? undefined : (failed.reasons[0] ?? "failed");
}

/** @returns the path without its extension; a run never overwrites another's results */
export async function writeResults(folder: string, name: string, results: Results, report: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (let copy = 1; ; copy++) {
    const path = join(folder, copy === 1 ? name : `${name}-${copy}`);
    const taken = await access(`${path}.json`).then(() => true, () => false);
    if (taken) continue;
    await writeFile(`${path}.json`, `${JSON.stringify(results, undefined, 1)}\n`, { flag: "wx" });
    await writeFile(`${path}.md`, report);
    return path;
  }
}
