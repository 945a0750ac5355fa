import { createDistribution, type Distribution } from "./statistics.ts";

/** One stretch of the run, of as many milliseconds as the timeline says. */
export interface Stretch {
  received: number;
  stored: number;
  errors: number;
  bytes: number;
  /** Of the uploads whose receipt came in it. */
  uploadMs: Distribution;
}

export interface Timeline {
  at(ms: number): Stretch;
  stretches(): readonly Stretch[];
  stretchMs(): number;
}

/** Also what a chart can show side by side. */
const MOST_STRETCHES = 240;

/** What happened when, since the start. Where a run grows long, two stretches become one: the memory is bounded. */
export function createTimeline(mostStretches = MOST_STRETCHES): Timeline {
  let stretches: Stretch[] = [];
  let stretchMs = 1000;
  return {
    at(ms) {
      while (ms >= mostStretches * stretchMs) {
        stretches = halved(stretches);
        stretchMs *= 2;
      }
      const index = Math.max(0, Math.floor(ms / stretchMs));
      while (stretches.length <= index) stretches.push(emptyStretch());
      return stretches[index]!;
    },
    stretches: () => stretches,
    stretchMs: () => stretchMs,
  };
}

function halved(stretches: readonly Stretch[]): Stretch[] {
  const halves: Stretch[] = [];
  for (let index = 0; index < stretches.length; index += 2) {
    const into = stretches[index]!, from = stretches[index + 1];
    if (from) {
      for (const what of ["received", "stored", "errors", "bytes"] as const) into[what] += from[what];
      into.uploadMs.addAll(from.uploadMs);
    }
    halves.push(into);
  }
  return halves;
}

function emptyStretch(): Stretch {
  return { received: 0, stored: 0, errors: 0, bytes: 0, uploadMs: createDistribution(0) };
}
