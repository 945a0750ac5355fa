/** How often a time fell into each step; a step is a tenth longer than the one before, so what is read from it is 5 % off at most. */
export type Histogram = Record<number, number>;

const GROWTH = 1.1;

export function addTime(histogram: Histogram, ms: number): void {
  const step = ms < 1 ? 0 : Math.floor(Math.log(ms) / Math.log(GROWTH)) + 1;
  histogram[step] = (histogram[step] ?? 0) + 1;
}

export function mergeInto(histogram: Histogram, other: Histogram): void {
  for (const [step, count] of Object.entries(other)) histogram[Number(step)] = (histogram[Number(step)] ?? 0) + count;
}

/** The times below which these shares of all lie, in milliseconds. Null: there are none. */
export function percentiles<Share extends number>(histogram: Histogram, shares: readonly Share[]): Record<Share, number | null> {
  const steps = Object.entries(histogram).map(([step, count]) => [Number(step), count] as const).sort(([one], [other]) => one - other);
  const all = steps.reduce((sum, [, count]) => sum + count, 0);
  return Object.fromEntries(shares.map((share) => {
    let left = Math.ceil(all * share);
    const found = steps.find(([, count]) => (left -= count) <= 0);
    return [share, found ? middleOf(found[0]) : null];
  })) as Record<Share, number | null>;
}

function middleOf(step: number): number {
  return step === 0 ? 0.5 : Math.round(GROWTH ** (step - 0.5) * 10) / 10;
}
