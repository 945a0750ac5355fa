import { PAGEVIEW, type Event } from "./messages.ts";
import { dayOf, hexOf, mark, QUARTER_MS, quarterBegin, quarterOfDay, type DayQuarters } from "./quarters.ts";

/** Rows by which the figures grow. Instants are ISO 8601, days "2026-11-22", both UTC. */
export interface Rollup {
  quarters: { site_id: string; begins_at: string; event_type: string; events: number }[];
  /** Page views that have a path, by the quarter and by the day. */
  paths: { site_id: string; begins_at: string; path: string; views: number }[];
  pathDays: { site_id: string; day: string; path: string; views: number }[];
  users: UserDay[];
}

/** `quarters`: as hexOf has them. */
export interface UserDay {
  site_id: string;
  day: string;
  user_id: string;
  quarters: string;
}

/** What these events add to the figures. */
export function rollUp(events: readonly Event[]): Rollup {
  const quarters = new Map<string, Rollup["quarters"][number]>();
  const paths = new Map<string, Rollup["paths"][number]>();
  const pathDays = new Map<string, Rollup["pathDays"][number]>();
  const users = new Map<string, Omit<UserDay, "quarters"> & { quarters: DayQuarters }>();
  const timeOf = remembered((at: number) => ({ day: dayOf(at), begins_at: quarterBegin(at) }));
  for (const [site_id, event_type, path, user_id, at] of events) {
    const { day, begins_at } = timeOf(at);
    const inQuarter = `${begins_at}${site_id}\0`;
    const onDay = `${day}${site_id}\0`;
    grow(quarters, inQuarter + event_type, "events", () => ({ site_id, begins_at, event_type, events: 0 }));
    if (event_type === PAGEVIEW && path !== null) {
      grow(paths, inQuarter + path, "views", () => ({ site_id, begins_at, path, views: 0 }));
      grow(pathDays, onDay + path, "views", () => ({ site_id, day, path, views: 0 }));
    }
    if (user_id === null) continue;
    let user = users.get(onDay + user_id);
    if (!user) users.set(onDay + user_id, (user = { site_id, day, user_id, quarters: [0, 0, 0] }));
    mark(user.quarters, quarterOfDay(at));
  }
  return {
    quarters: [...quarters.values()], paths: [...paths.values()], pathDays: [...pathDays.values()],
    users: [...users.values()].map((user) => ({ ...user, quarters: hexOf(user.quarters) })),
  };
}

function grow<Name extends string, Row extends Record<Name, number>>(rows: Map<string, Row>, key: string, figure: Name, begin: () => Row): void {
  let row = rows.get(key);
  if (!row) rows.set(key, (row = begin()));
  (row[figure] as number)++;
}

/** Formatting a time costs as much as all the rest of an event, and most of a batch are of the same quarter. */
function remembered<T>(of: (at: number) => T): (at: number) => T {
  const known = new Map<number, T>();
  return (at) => {
    const quarter = Math.floor(at / QUARTER_MS);
    let found = known.get(quarter);
    if (!found) known.set(quarter, (found = of(at)));
    return found;
  };
}
