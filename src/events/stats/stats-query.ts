import { z } from "zod";
import { Failure } from "../../core/errors.ts";
import { parseQuery } from "../../http/validate.ts";
import { faultOf, type TextField } from "../event-text.ts";
import { PAGEVIEW } from "../messages.ts";
import { MOST_DAYS, MOST_HOURLY_DAYS, type Days, type SeriesWanted } from "./stats.ts";

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;

const ONCE = "must be given once";
const textOf = (field: TextField) => z.string(ONCE).min(1, "is empty").superRefine((text, context) => {
  const message = faultOf(field, text);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});
const day = z.string(ONCE).refine(isDay, "must be a day that there is, such as 2026-01-15");
const zone = z.string(ONCE).refine(isZone, "must be a time zone's name, such as Europe/Berlin or UTC").default("UTC");
const whole = (most: number) => z.string(ONCE).regex(/^\d{1,6}$/, `must be a whole number from 1 to ${most}`).transform(Number)
  .refine((count) => count >= 1 && count <= most, `must be a whole number from 1 to ${most}`);

const StatsQuery = z.object({ date: day.optional(), tz: zone, limit: whole(1_000).default(10) });
const SeriesQuery = z.object({ from: day.optional(), to: day.optional(), tz: zone, interval: z.enum(["hour", "day"], "must be hour or day").default("day"), event_type: textOf("event_type").default(PAGEVIEW) });
const TypesQuery = SeriesQuery.pick({ from: true, to: true, tz: true });
const LatestQuery = z.object({ limit: whole(200).default(20) });
const PageQuery = SeriesQuery.omit({ interval: true }).extend({ site_id: textOf("site_id").optional() });

type Today = (zone: string) => string;

/** @throws Failure INVALID_QUERY, "site_id required" first of all */
export function readSite(query: Record<string, unknown>): string {
  if (query.site_id === undefined || query.site_id === "") throw new Failure("INVALID_QUERY", "site_id required");
  return parseQuery(z.object({ site_id: textOf("site_id") }), query).site_id;
}

/** @throws Failure INVALID_QUERY */
export function readStatsQuery(query: Record<string, unknown>, today: Today) {
  const siteId = readSite(query);
  const { date, tz, limit } = parseQuery(StatsQuery, query);
  const wanted = date ?? today(tz);
  return { siteId, days: { from: wanted, to: wanted, zone: tz }, limit };
}

/** @throws Failure INVALID_QUERY */
export function readSeriesQuery(query: Record<string, unknown>, today: Today): { siteId: string; wanted: SeriesWanted } {
  const siteId = readSite(query);
  const { interval, event_type: eventType, ...asked } = parseQuery(SeriesQuery, query);
  const days = daysOf(asked, today, interval === "hour" ? 1 : DEFAULT_DAYS);
  assertNoMoreThan(interval === "hour" ? MOST_HOURLY_DAYS : MOST_DAYS, days, interval === "hour" ? " by the hour" : "");
  return { siteId, wanted: { ...days, interval, eventType } };
}

/** @throws Failure INVALID_QUERY */
export function readTypesQuery(query: Record<string, unknown>, today: Today): { siteId: string; days: Days } {
  const siteId = readSite(query);
  const days = daysOf(parseQuery(TypesQuery, query), today, DEFAULT_DAYS);
  assertNoMoreThan(MOST_DAYS, days);
  return { siteId, days };
}

/** @throws Failure INVALID_QUERY */
export function readLatestQuery(query: Record<string, unknown>): { siteId: string; limit: number } {
  return { siteId: readSite(query), limit: parseQuery(LatestQuery, query).limit };
}

/** Of the page: without a site, none was chosen yet; without days, today. @throws Failure INVALID_QUERY */
export function readPageQuery(query: Record<string, unknown>, today: Today): { siteId: string | undefined; days: Days; eventType: string } {
  const given = Object.fromEntries(Object.entries(query).filter(([, value]) => value !== "")); // a form sends what nobody filled in
  const { site_id: siteId, event_type: eventType, ...asked } = parseQuery(PageQuery, given);
  const days = daysOf(asked, today, 1);
  assertNoMoreThan(MOST_DAYS, days);
  return { siteId, days, eventType };
}

/** Until today and over so many days, where nothing else is said; with one end given, the other is found from it. */
function daysOf({ from, to, tz }: { from?: string | undefined; to?: string | undefined; tz: string }, today: Today, count: number): Days {
  const now = today(tz);
  const end = to ?? (from !== undefined && from > now ? from : now);
  const begin = from ?? new Date(Date.parse(end) - (count - 1) * DAY_MS).toISOString().slice(0, 10);
  if (begin > end) throw new Failure("INVALID_QUERY", "from: lies after to");
  return { from: begin, to: end, zone: tz };
}

function assertNoMoreThan(most: number, { from, to }: Days, how = ""): void {
  if ((Date.parse(to) - Date.parse(from)) / DAY_MS >= most) throw new Failure("INVALID_QUERY", `from, to: at most ${most} days at a time${how}`);
}

function isDay(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || text < "1970-01-01" || text > "9998-12-31") return false;
  const at = new Date(`${text}T00:00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text);
}

/**
 * UTC, and names of regions. PostgreSQL reads "+02:00" as two hours west, and short names such as CET or IST as abbreviations,
 * without summer time or of another country than Node does.
 */
function isZone(text: string): boolean {
  if (text === "UTC") return true;
  if (!/^[A-Za-z][\w+-]*(\/[\w+-]+)+$/.test(text) || text.length > 64) return false;
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: text });
    return true;
  } catch {
    return false;
  }
}
