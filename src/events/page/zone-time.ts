/** How the analytics page writes times, in the zone it counts the days of. public/analytics/zone-time.js says the same for the browser: change both. */
const formats = new Map<string, Intl.DateTimeFormat>();
const MOST_FORMATS = 64; // of some 600 zones there are; each holds some 20 KB

/** "2026-11-22 11:30:05", as clocks there show it. The zone is one that there is. */
export function zoneTime(instant: Date, zone: string): string {
  const part = Object.fromEntries(formatOf(zone).formatToParts(instant).map(({ type, value }) => [type, value]));
  return `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}:${part.second}`;
}

function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known) return known;
  if (formats.size >= MOST_FORMATS) formats.clear();
  const made = new Intl.DateTimeFormat("en-US", {
    timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  });
  formats.set(zone, made);
  return made;
}
