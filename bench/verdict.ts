import type { Ratio } from "./arithmetic.ts";
import { spread } from "./table.ts";

/** One promise about speed and what this run has to say about it. */
export interface Goal {
  subject: string;
  wanted: string;
  measured: string;
  verdict: "met" | "missed" | "not measured";
}

/** Shows the spread too: a goal met by the median and missed by the worst round is worth a second look. */
export function atLeast(subject: string, wanted: string, least: number, ratio: Ratio | undefined, failure?: string): Goal {
  if (failure !== undefined) return { subject, wanted, measured: failure, verdict: "missed" };
  return { subject, wanted, measured: spread(ratio), verdict: verdict(ratio?.median, (value) => value >= least) };
}

export function atMost(subject: string, most: number, unit: string, value: number | undefined): Goal {
  return {
    subject,
    wanted: `≤ ${most} ${unit}`,
    measured: value === undefined ? "–" : `${value.toFixed(1)} ${unit}`,
    verdict: verdict(value, (found) => found <= most),
  };
}

export function verdict(value: number | undefined, holds: (value: number) => boolean): Goal["verdict"] {
  if (value === undefined) return "not measured";
  return holds(value) ? "met" : "missed";
}
