import type { Clock } from "../../core/clock.ts";
import { Failure } from "../../core/errors.ts";
import { isDataError, type Db } from "../../db/pool.ts";
import * as queries from "./stats-queries.ts";

/** Days as people count them where the zone is, both of them in it: "2026-11-22". */
export interface Days {
  from: string;
  to: string;
  /** IANA's name, "UTC" among them. */
  zone: string;
}

export interface SeriesWanted extends Days {
  eventType: string;
  interval: "hour" | "day";
}

export const MOST_DAYS = 731;
export const MOST_HOURLY_DAYS = 31;
const MOST_TYPES = 100;
/** Of some days added up: to tell them apart takes a second. */
export const MOST_USER_DAYS = 5_000_000;
export const MOST_SITES = 500;
const UTC = "UTC";
const DAY_MS = 86_400_000;
/** Events go by whole weeks, figures by days: some of a week's events outlive theirs. And a day for the zones. */
const CHUNK_DAYS = 8;

export type Stats = ReturnType<typeof createStats>;

/** What the pages and the API show of analytics events. An unknown site has zeros. Views are events of the type "pageview". */
export function createStats({ db, rollupRetentionDays, clock }: { db: Db; rollupRetentionDays?: number | undefined; clock: Clock }) {
  /** The day it is now, there. */
  function today(zone: string): string {
    const inZone = new Intl.DateTimeFormat("en-US", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
    const part = Object.fromEntries(inZone.formatToParts(clock.now()).map(({ type, value }) => [type, value]));
    return `${part.year}-${part.month}-${part.day}`;
  }

  /**
   * Views, distinct users and the most viewed paths.
   * @param mostUserDays  with more users than that, each day's added up, they are not counted, and are null
   * @throws Failure INVALID_QUERY; Unavailable
   */
  function figures(siteId: string, { from, to, zone }: Days, mostPaths: number, mostUserDays: number | null = null): Promise<queries.Figures> {
    return knowingTheZone(async () => {
      if (zone === UTC && from === to) return queries.selectDay(db, siteId, from, mostPaths);
      return queries.selectBetween(db, siteId, await queries.selectBounds(db, from, to, zone), mostPaths, mostUserDays);
    });
  }

  /** Events of one type by the hour or the day, those without any as well. @throws Failure INVALID_QUERY; Unavailable */
  function series(siteId: string, { from, to, zone, eventType, interval }: SeriesWanted): Promise<queries.Point[]> {
    return knowingTheZone(() => queries.selectSeries(db, siteId, eventType, from, to, zone, interval));
  }

  /** How many events of each type, the most frequent first, and of all together. @throws as series */
  function types(siteId: string, { from, to, zone }: Days): Promise<{ events: number; types: queries.TypeCount[] }> {
    return knowingTheZone(() => queries.selectTypes(db, siteId, from, to, zone, MOST_TYPES));
  }

  /** The events that happened last. @throws Unavailable */
  function latest(siteId: string, most: number): Promise<queries.LatestEvent[]> {
    const oldest = rollupRetentionDays === undefined ? undefined : new Date(clock.now().getTime() - (rollupRetentionDays + CHUNK_DAYS) * DAY_MS);
    return queries.selectLatest(db, siteId, most, oldest);
  }

  /** Sites that have figures, by name. @throws Unavailable */
  function sites(): Promise<string[]> {
    return queries.selectSites(db, MOST_SITES);
  }

  return { today, figures, series, types, latest, sites, deadLetters: () => queries.countDeadLetters(db) };
}

async function knowingTheZone<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (isDataError(error)) throw new Failure("INVALID_QUERY", "tz: the database does not know this time zone", { cause: error });
    throw error;
  }
}
