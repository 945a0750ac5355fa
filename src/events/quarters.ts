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

const ALL_DAY = "1".repeat(QUARTERS_A_DAY);

/** Which quarters of which days of UTC lie within [beginsAt, endsAt), which are whole ones. */
export function daysWithin(beginsAt: Date, endsAt: Date): { day: string; quarters: string }[] {
  const [begin, end] = [quarterOf(beginsAt.getTime()), quarterOf(endsAt.getTime())];
  const days: { day: string; quarters: string }[] = [];
  for (let midnight = begin - (begin % QUARTERS_A_DAY); midnight < end; midnight += QUARTERS_A_DAY) {
    const [first, last] = [Math.max(begin, midnight), Math.min(end, midnight + QUARTERS_A_DAY)];
    const isWhole = last - first === QUARTERS_A_DAY;
    days.push({ day: dayOf(midnight), quarters: isWhole ? ALL_DAY : bitsOf(Array.from({ length: last - first }, (_, i) => first + i)) });
  }
  return days;
}
