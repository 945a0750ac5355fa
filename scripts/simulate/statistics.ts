/** What is known of many durations, in bounded memory. */
export interface Distribution {
  add(ms: number): void;
  /** The nearest rank: the smallest value that at least `percent` % of all do not exceed. Undefined: there is none. */
  percentile(percent: number): number | undefined;
  count(): number;
  largest(): number | undefined;
  mean(): number | undefined;
  /** How often each value, upwards; the values are rounded where there are too many. */
  values(): [value: number, count: number][];
  addAll(other: Distribution): void;
}

/** 8 MiB of doubles; more than a day of ten uploads a second. */
const MOST_EXACT = 1_000_000;
const FIRST_ROOM = 1024;

/**
 * Exact up to `mostExact` values. From then on each is kept to three significant digits, of which there are 900 a decade:
 * off by at most half a percent, however long it runs.
 */
export function createDistribution(mostExact = MOST_EXACT): Distribution {
  let exact = new Float64Array(Math.min(FIRST_ROOM, mostExact));
  let rounded: Map<number, number> | undefined = mostExact === 0 ? new Map() : undefined;
  let sorted = true;
  let count = 0, sum = 0, largest = -Infinity;

  function keep(ms: number, times: number): void {
    if (!rounded && count + times > mostExact) {
      rounded = new Map();
      for (const value of exact.subarray(0, count)) countIn(rounded, value, 1);
      exact = new Float64Array(0);
    }
    if (rounded) {
      countIn(rounded, ms, times);
    } else {
      if (count + times > exact.length) exact = grown(exact, Math.min(Math.max(exact.length * 2, count + times), mostExact));
      exact.fill(ms, count, count + times);
    }
    sorted = false;
    count += times;
    sum += ms * times;
    largest = Math.max(largest, ms);
  }

  function values(): [number, number][] {
    if (rounded) return [...rounded].sort(([one], [other]) => one - other);
    if (!sorted) exact.subarray(0, count).sort();
    sorted = true;
    return Array.from(exact.subarray(0, count), (value) => [value, 1]);
  }

  return {
    add: (ms) => keep(ms, 1),
    percentile(percent) {
      if (count === 0) return undefined;
      const rank = Math.min(Math.max(Math.ceil((percent / 100) * count), 1), count);
      if (!rounded) {
        if (!sorted) exact.subarray(0, count).sort();
        sorted = true;
        return exact[rank - 1];
      }
      let passed = 0;
      for (const [value, times] of values()) {
        passed += times;
        if (passed >= rank) return value;
      }
      return largest;
    },
    count: () => count,
    largest: () => (count === 0 ? undefined : largest),
    mean: () => (count === 0 ? undefined : sum / count),
    values,
    addAll(other) {
      for (const [value, times] of other.values()) keep(value, times);
    },
  };
}

function countIn(counts: Map<number, number>, ms: number, times: number): void {
  const value = Number(ms.toPrecision(3));
  counts.set(value, (counts.get(value) ?? 0) + times);
}

function grown(from: Float64Array<ArrayBuffer>, length: number): Float64Array<ArrayBuffer> {
  const to = new Float64Array(length);
  to.set(from);
  return to;
}
