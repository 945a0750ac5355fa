/** The few sums the bench does, apart from everything else so that they can be tested. */

/** The nearest-rank percentile of values sorted upwards: the smallest one that at least `percent` % do not exceed. */
export function percentile(sorted: ArrayLike<number>, percent: number): number {
  if (sorted.length === 0) return Number.NaN;
  const rank = Math.ceil((percent / 100) * sorted.length);
  return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1] as number;
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export interface Ratio {
  median: number;
  lowest: number;
  highest: number;
}

/**
 * How many times `theirs` is `ours`. The two were measured in turns, so the ratio is taken within each round,
 * where the machine was the same for both, and the median of these is the answer.
 * Rounds that either of them lacks are left out; undefined when none is left.
 */
export function pairedRatio(
  ours: readonly (number | undefined)[],
  theirs: readonly (number | undefined)[],
): Ratio | undefined {
  const ratios: number[] = [];
  for (const [round, our] of ours.entries()) {
    const their = theirs[round];
    if (our !== undefined && their !== undefined && their > 0) ratios.push(our / their);
  }
  if (ratios.length === 0) return undefined;
  return { median: median(ratios), lowest: Math.min(...ratios), highest: Math.max(...ratios) };
}

/** Undefined where either is. */
export function difference(after: number | undefined, before: number | undefined): number | undefined {
  return after === undefined || before === undefined ? undefined : after - before;
}
