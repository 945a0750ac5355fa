/** Analytics events as a small site has them: busy afternoons, quiet weekends, a few paths that most people see. */
import { randomFrom } from "./random.ts";

export interface SampleEvent {
  site_id: string;
  event_type: string;
  path: string;
  user_id: string;
  timestamp: string;
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const PATHS = [
  "/", "/live", "/radar", "/stations/mast-camera", "/stations/7", "/forecast", "/forecast/weekend", "/stations", "/about", "/blog/reading-the-anvil", "/alerts/🌩️",
  "/blog/a-night-on-the-ridge", "/archive/2026/10", "/stations/9", "/contact", "/data/download", "/blog", "/impressum", "/archive", "/api",
];
const TYPES = [["pageview", 0.84], ["click", 0.93], ["download", 0.965], ["signup", 0.985], ["alert 🌩️", 1]] as const;

/** Of the last `days` days until now, the same ones each time for the same day. */
export function sampleEvents(siteId: string, days: number, now: Date): SampleEvent[] {
  const random = randomFrom(417);
  const today = Math.floor(now.getTime() / DAY_MS) * DAY_MS;
  const events: SampleEvent[] = [];
  for (let back = days - 1; back >= 0; back--) {
    const day = today - back * DAY_MS;
    const weekend = [0, 6].includes(new Date(day).getUTCDay());
    const count = Math.round((weekend ? 190 : 330) * (1.25 - back / days / 2) * (0.8 + 0.4 * random()) * (back === 9 ? 1.9 : 1)); // a storm
    for (let index = 0; index < count; index++) {
      const hour = 13.5 + (random() + random() + random() - 1.5) * 9;
      const at = day + Math.min(23.99, Math.max(0, hour)) * HOUR_MS;
      if (at <= now.getTime()) events.push(eventAt(at));
    }
  }
  return events;

  function eventAt(at: number): SampleEvent {
    const which = random();
    return {
      site_id: siteId, event_type: TYPES.find(([, until]) => which <= until)![0], path: PATHS[Math.floor(random() ** 2.2 * PATHS.length)]!,
      user_id: `visitor-${100 + Math.floor(random() ** 1.6 * 2600)}`, timestamp: new Date(at).toISOString(),
    };
  }
}
