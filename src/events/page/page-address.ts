import type { Days } from "../stats/stats.ts";
import { PAGEVIEW } from "../messages.ts";
import { dayName } from "./series-chart.ts";

const DAY_MS = 86_400_000;

/** What the page shows. */
export interface Shown {
  siteId: string | undefined;
  days: Days;
  eventType: string;
}

/** The page's own address for it. Without days: today, whenever that is. */
export function addressOf({ siteId, days, eventType }: { siteId: string | undefined; days: Partial<Days>; eventType: string }): string {
  const query = new URLSearchParams();
  if (siteId !== undefined) query.set("site_id", siteId);
  if (days.from !== undefined) query.set("from", days.from);
  if (days.to !== undefined) query.set("to", days.to);
  if (days.zone !== undefined && days.zone !== "UTC") query.set("tz", days.zone);
  if (eventType !== PAGEVIEW) query.set("event_type", eventType);
  return `/analytics${query.size > 0 ? `?${query}` : ""}`;
}

export interface Range {
  label: string;
  href: string;
  chosen: boolean;
}

/** The times that are asked for most. */
export function rangesOf({ siteId, days, eventType }: Shown, today: string): Range[] {
  const range = (label: string, from: string, to: string): Range => ({
    label, chosen: days.from === from && days.to === to,
    href: addressOf({ siteId, eventType, days: { zone: days.zone, ...(label !== "Today" && { from, to }) } }),
  });
  return [
    range("Today", today, today),
    range("Yesterday", daysBefore(today, 1), daysBefore(today, 1)),
    range("Last 7 days", daysBefore(today, 6), today),
    range("Last 30 days", daysBefore(today, 29), today),
  ];
}

/** "Today, 22 Nov 2026", "16 Nov 2026 to 22 Nov 2026"; in words, without its zone. */
export function nameOf({ from, to }: Days, today: string): string {
  if (from !== to) return `${dayName(from)} to ${dayName(to)}`;
  return from === today ? `Today, ${dayName(from)}` : dayName(from);
}

/** How many days, both of them in it. */
export function countOf({ from, to }: Days): number {
  return (Date.parse(to) - Date.parse(from)) / DAY_MS + 1;
}

function daysBefore(day: string, count: number): string {
  return new Date(Date.parse(day) - count * DAY_MS).toISOString().slice(0, 10);
}
