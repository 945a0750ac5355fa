/**
 * A quarter of an hour, from a full one on, UTC. It is known by its number since 1970-01-01. Every time zone in use since 2000 is a
 * multiple of it away from UTC, so that hours and days of any of them are made of whole quarters.
 */
export const QUARTER_MS = 900_000;
const DAY_MS = 86_400_000;
const QUARTERS_A_DAY = DAY_MS / QUARTER_MS;

export function quarterOf(ms: number): number {
  return Math.floor(ms / QUARTER_MS);
}

/** When it begins, ISO 8601. */
export function beginOf(quarter: number): string {
  return new Date(quarter * QUARTER_MS).toISOString();
}

/** The day of UTC that the quarter is in, "2026-11-22". */
export function dayOf(quarter: number): string {
  return beginOf(quarter).slice(0, 10);
}

/** Quarters of a day as event_user_days has them: 96 bits, the first of them from 00:00, in text: "0010…". */
export function bitsOf(quarters: Iterable<number>): string {
  const bits = new Uint8Array(QUARTERS_A_DAY).fill(0x30);
  for (const quarter of quarters) bits[quarter % QUARTERS_A_DAY] = 0x31;
  return Buffer.from(bits).toString("latin1");
}

/** A day of UTC, and which quarters of it. */
export interface DayPart {
  day: string;
  /** As bitsOf has them. */
  quarters: string;
}

/** Of [beginsAt, endsAt), both at a full quarter, the first and the last day of UTC; those between are whole. They may be the same one. */
export function endsOf(beginsAt: Date, endsAt: Date): { first: DayPart; last: DayPart } {
  const [begin, end] = [quarterOf(beginsAt.getTime()), quarterOf(endsAt.getTime())];
  const partOf = (midnight: number): DayPart => {
    const [from, until] = [Math.max(begin, midnight), Math.min(end, midnight + QUARTERS_A_DAY)];
    return { day: dayOf(midnight), quarters: bitsOf(Array.from({ length: until - from }, (_, i) => from + i)) };
  };
  return { first: partOf(midnightOf(begin)), last: partOf(midnightOf(end - 1)) };
}

/** What days lack at one of their ends, or have too much: a part of one day. It may be nothing: it begins then when it ends. */
export interface Edge {
  /** Of UTC, which it lies in. */
  day: string;
  beginsAt: string;
  endsAt: string;
  sign: 1 | -1;
}

/**
 * [beginsAt, endsAt), both at a full quarter, as days of UTC and, at either end, what they lack or have too much of it: whichever
 * is shorter. Figures that can be added up are read so from a day's few rows and a few hours' many, and not from a whole day's.
 * @returns the days from `from` on and before `until`; none where they are the same
 */
export function daysAndEdges(beginsAt: Date, endsAt: Date): { from: string; until: string; edges: [Edge, Edge] } {
  const [begin, end] = [quarterOf(beginsAt.getTime()), quarterOf(endsAt.getTime())];
  const [from, until] = [nearestMidnight(begin), nearestMidnight(end)];
  return { from: dayOf(from), until: dayOf(until), edges: [edgeOf(begin, from), edgeOf(until, end)] };
}

/** What lies from one to the other; to be taken away where they stand the other way round. */
function edgeOf(from: number, until: number): Edge {
  const [begin, end] = [Math.min(from, until), Math.max(from, until)];
  return { day: dayOf(begin), beginsAt: beginOf(begin), endsAt: beginOf(end), sign: from <= until ? 1 : -1 };
}

function nearestMidnight(quarter: number): number {
  return midnightOf(quarter + QUARTERS_A_DAY / 2 - 1);
}

function midnightOf(quarter: number): number {
  return Math.floor(quarter / QUARTERS_A_DAY) * QUARTERS_A_DAY;
}
