import { PAGEVIEW, type Event } from "./messages.ts";
import { quarterOf } from "./quarters.ts";

/** What some events add to the figures of a site's quarter. */
export interface QuarterFigures {
  siteId: string;
  /** Counted from 1970; see quarters.ts. */
  quarter: number;
  /** Event type -> events. */
  types: Map<string, number>;
  /** Path -> page views. */
  paths: Map<string, number>;
  /** Who did anything. */
  users: Set<string>;
}

/** What these events add to the figures. */
export function rollUp(events: readonly Event[]): QuarterFigures[] {
  const sites = new Map<string, Map<number, QuarterFigures>>();
  for (const [siteId, eventType, path, userId, at] of events) {
    let quarters = sites.get(siteId);
    if (!quarters) sites.set(siteId, (quarters = new Map()));
    const quarter = quarterOf(at);
    let figures = quarters.get(quarter);
    if (!figures) quarters.set(quarter, (figures = { siteId, quarter, types: new Map(), paths: new Map(), users: new Set() }));
    figures.types.set(eventType, (figures.types.get(eventType) ?? 0) + 1);
    if (path !== null && eventType === PAGEVIEW) figures.paths.set(path, (figures.paths.get(path) ?? 0) + 1);
    if (userId !== null) figures.users.add(userId);
  }
  return [...sites.values()].flatMap((quarters) => [...quarters.values()]);
}
