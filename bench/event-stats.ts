/** How fast are /stats and /stats/series when there are many events? */
import { isDeepStrictEqual } from "node:util";
import type pg from "pg";
import { DAYS, fillEvents, recountDay, type Filled } from "./event-fill.ts";
import { onFreshHub, type WorkerTools } from "./worker.ts";

const CLIENTS = [1, 16] as const;
const SECONDS = 3;
const ZONES = ["UTC", "Europe/Berlin"] as const;
const CHECKED_DAY = 15; // of those there are; one in the middle

/** A day of a site, each as likely as the others; the same as days are counted in Berlin; the views of each of the 30 days. */
export type StatsQuestion = "day" | "day-in-zone" | "series";

export interface StatsCell {
  question: StatsQuestion;
  clients: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  failures: number;
  reasons: string[];
}

export interface EventStatsResult {
  rows: number;
  /** What it must not do: the same figures of the largest site's day by counting its events, milliseconds. */
  countingMs: number;
  /** By round. */
  rounds: StatsCell[][];
}

export async function measureEventStats(tools: WorkerTools): Promise<EventStatsResult> {
  const { options, generator, say } = tools;
  const rows = options.eventRows;
  return onFreshHub(tools, async (hub, ledger, folder) => {
    const filled = await fillEvents(ledger.client, rows, (done) => say(`${done} events of ${rows}`));
    const web = await hub.startWeb(folder, "stats");
    const rounds: StatsCell[][] = [];
    try {
      const countingMs = await checkDay(ledger.client, web.port, filled);
      for (let round = 1; round <= options.rounds; round++) {
        const cells: StatsCell[] = [];
        for (const [question, paths] of Object.entries(questionsOf(filled)) as [StatsQuestion, string[]][]) {
          for (const clients of CLIENTS) {
            const { perSecond, p50Ms, p99Ms, failures, reasons } = await generator.run({
              port: web.port,
              clients,
              request: { method: "GET", path: "/", paths, headers: { Accept: "application/json" }, body: "none", sizeBytes: 0 },
              expect: { status: 200, text: question === "series" ? '"points":[{' : '"total_views":' },
              warmUp: { requests: paths.length },
              measure: { forMs: (options.quick ? 0.5 : SECONDS) * 1000 },
            });
            cells.push({ question, clients, perSecond, p50Ms, p99Ms, failures, reasons });
            say(`round ${round}: ${question}, ${clients} clients p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms${failures > 0 ? ` FAILED: ${reasons[0]}` : ""}`);
          }
        }
        rounds.push(cells);
      }
      return { rows, countingMs, rounds };
    } finally {
      await web.stop();
    }
  });
}

function questionsOf({ days, sites }: Filled): Record<StatsQuestion, string[]> {
  const ofDays = (zone: string): string[] =>
    shuffled(sites.flatMap((site) => days.map((day) => `/stats?site_id=${site}&date=${day}${zone}`)));
  return {
    day: ofDays(""),
    "day-in-zone": ofDays(`&tz=${encodeURIComponent(ZONES[1])}`),
    series: sites.map((site) => `/stats/series?site_id=${site}&from=${days[0]}&to=${days[DAYS - 1]}`),
  };
}

/** What is answered for a day, in both zones, is what its events say. @returns how long it took to ask the events of the largest site, milliseconds */
async function checkDay(client: pg.Client, port: number, { days, sites }: Filled): Promise<number> {
  const day = days[CHECKED_DAY]!;
  let countingMs = 0;
  for (const site of sites) {
    for (const zone of ZONES) {
      const startedAt = performance.now();
      const counted = await recountDay(client, site, day, zone);
      if (site === sites[0] && zone === ZONES[0]) countingMs = performance.now() - startedAt;
      const response = await fetch(`http://127.0.0.1:${port}/stats?site_id=${site}&date=${day}&tz=${encodeURIComponent(zone)}`, {
        headers: { connection: "close" },
      });
      const { total_views, unique_users, top_paths } = (await response.json()) as Record<string, unknown>;
      const answered = { total_views, unique_users, top_paths };
      if (!isDeepStrictEqual(answered, { ...counted })) {
        throw new Error(`/stats of ${site} on ${day}, ${zone}, is ${JSON.stringify(answered)}; its events say ${JSON.stringify(counted)}`);
      }
    }
  }
  return countingMs;
}

/** Always the same way, so that each round asks the same. */
function shuffled<T>(items: readonly T[]): T[] {
  const step = 67; // a prime that divides none of the numbers there are: each comes once
  return items.map((_, index) => items[(index * step) % items.length]!);
}
