/** A quarter of an hour, from a full one on, UTC. */
export const QUARTER_MS = 900_000;
const DAY_MS = 86_400_000;
const QUARTERS_A_DAY = 96;
const WORD_BITS = 32;

/** Quarters of a day: 96 bits in three words, the highest of the first one is the quarter from 00:00. */
export type DayQuarters = [number, number, number];

/** The quarter of its day that the instant is in, 0 to 95. */
export function quarterOfDay(ms: number): number {
  return Math.floor(ms / QUARTER_MS) - Math.floor(ms / DAY_MS) * QUARTERS_A_DAY;
}

export function mark(quarters: DayQuarters, quarter: number): void {
  quarters[Math.floor(quarter / WORD_BITS)]! |= 1 << (WORD_BITS - 1 - (quarter % WORD_BITS));
}

/** 24 hexadecimal digits, as PostgreSQL reads them: ('x' || digits)::bit(96). */
export function hexOf(quarters: DayQuarters): string {
  return quarters.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** The day of UTC that the instant is in, "2026-11-22". */
export function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

/** When the quarter began that the instant is in, ISO 8601. */
export function quarterBegin(ms: number): string {
  return new Date(Math.floor(ms / QUARTER_MS) * QUARTER_MS).toISOString();
}

/** Which quarters of which days of UTC lie within [beginsAt, endsAt). */
export function daysWithin(beginsAt: Date, endsAt: Date): { day: string; quarters: string }[] {
  const days: { day: string; quarters: string }[] = [];
  for (let day = Math.floor(beginsAt.getTime() / DAY_MS) * DAY_MS; day < endsAt.getTime(); day += DAY_MS) {
    const quarters: DayQuarters = [0, 0, 0];
    for (let quarter = 0; quarter < QUARTERS_A_DAY; quarter++) {
      const at = day + quarter * QUARTER_MS;
      if (at >= beginsAt.getTime() && at < endsAt.getTime()) mark(quarters, quarter);
    }
    days.push({ day: dayOf(day), quarters: hexOf(quarters) });
  }
  return days;
}
