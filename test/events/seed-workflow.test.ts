import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
  world.setClock(new Date("2026-11-22T12:00:00Z")); // "today" is one day from beginning to end
});
afterEach(() => world.close());

/** Runs lines in a shell, as they are written but for the host. @returns the answers, a line each */
async function run(lines: string): Promise<unknown[]> {
  const script = `curl() { command curl -sS -w '\\n' "$@"; }\n${lines.replaceAll("http://localhost:5000", world.url)}`;
  const { stdout } = await promisify(execFile)("bash", ["-euc", script]);
  return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

const ACCEPTED = { status: "accepted" };

describe("the seed's curl lines, as they are written", () => {
  test("the complete workflow gives the figures it should", async () => {
    const [sending, asking] = COMPLETE_WORKFLOW.split("# 2. Wait a few seconds for worker to process");
    expect(await run(sending!)).toEqual([ACCEPTED, ACCEPTED, ACCEPTED]);
    await world.recordAll();
    expect(await run(asking!)).toEqual([{
      site_id: "test-site", date: "2026-11-22", total_views: 3, unique_users: 2, top_paths: [{ path: "/home", views: 2 }, { path: "/about", views: 1 }],
    }]);
  });

  test("an event of 2024 is counted on its day, and on no other", async () => {
    expect(await run(REQUEST)).toEqual([ACCEPTED]);
    await world.recordAll();
    const of = (date: string) => ({ site_id: "example-site", date, total_views: 0, unique_users: 0, top_paths: [] });
    const [today, thatDay] = await run(STATS);
    expect(today).toEqual(of("2026-11-22"));
    expect(thatDay).toEqual({ ...of("2024-01-15"), total_views: 1, unique_users: 1, top_paths: [{ path: "/home", views: 1 }] });
    expect(await run(OTHER_DATES)).toEqual([of("2026-11-22"), of("2024-01-14"), of("2024-01-08")]);
  });

  test("an event without a timestamp happened when it was accepted; without path and user it is a view all the same", async () => {
    expect(await run(MINIMAL_REQUEST)).toEqual([ACCEPTED]);
    await world.recordAll();
    expect(await world.stats({ site_id: "example-site" })).toMatchObject({ total_views: 1, unique_users: 0, top_paths: [] });
    expect(await world.sql("select event_type, path, user_id, timestamp from events")).toEqual([
      { event_type: "pageview", path: null, user_id: null, timestamp: new Date("2026-11-22T12:00:00Z") },
    ]);
  });

  test("of several types page views are the views, and all of them are somebody's doing", async () => {
    expect(await run(SEVERAL_TYPES)).toEqual([ACCEPTED, ACCEPTED, ACCEPTED]);
    await world.recordAll();
    expect((await run(STATS))[0]).toEqual({
      site_id: "example-site", date: "2026-11-22", total_views: 1, unique_users: 1, top_paths: [{ path: "/products", views: 1 }],
    });
    expect(await world.sql("select event_type, path, user_id from events order by event_type")).toEqual([
      { event_type: "click", path: "/products/item-123", user_id: "user456" },
      { event_type: "pageview", path: "/products", user_id: "user456" },
      { event_type: "purchase", path: "/checkout", user_id: "user456" },
    ]);
  });

  test("without a site both answer that they need one", async () => {
    const [sent] = await run(MINIMAL_REQUEST.replace('"site_id": "example-site",', ""));
    const [asked] = await run(`curl "http://localhost:5000/stats"`);
    for (const answer of [sent, asked]) expect(answer).toMatchObject({ error: "site_id required" });
  });
});

const REQUEST = String.raw`
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{
    "site_id": "example-site",
    "event_type": "pageview",
    "path": "/home",
    "user_id": "user123",
    "timestamp": "2024-01-15T10:30:00Z"
  }'
`;

const MINIMAL_REQUEST = String.raw`
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{
    "site_id": "example-site",
    "event_type": "pageview"
  }'
`;

const SEVERAL_TYPES = String.raw`
# Pageview event
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{
    "site_id": "example-site",
    "event_type": "pageview",
    "path": "/products",
    "user_id": "user456"
  }'

# Click event
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{
    "site_id": "example-site",
    "event_type": "click",
    "path": "/products/item-123",
    "user_id": "user456"
  }'

# Purchase event
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{
    "site_id": "example-site",
    "event_type": "purchase",
    "path": "/checkout",
    "user_id": "user456"
  }'
`;

const STATS = String.raw`
# Get stats for today
curl "http://localhost:5000/stats?site_id=example-site"

# Get stats for a specific date
curl "http://localhost:5000/stats?site_id=example-site&date=2024-01-15"
`;

const OTHER_DATES = String.raw`
# Today's stats
curl "http://localhost:5000/stats?site_id=example-site"

# Yesterday's stats
curl "http://localhost:5000/stats?site_id=example-site&date=2024-01-14"

# Last week's stats
curl "http://localhost:5000/stats?site_id=example-site&date=2024-01-08"
`;

const COMPLETE_WORKFLOW = String.raw`
# 1. Send multiple events
curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{"site_id": "test-site", "event_type": "pageview", "path": "/home", "user_id": "user1"}'

curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{"site_id": "test-site", "event_type": "pageview", "path": "/about", "user_id": "user1"}'

curl -X POST http://localhost:5000/event \
  -H "Content-Type: application/json" \
  -d '{"site_id": "test-site", "event_type": "pageview", "path": "/home", "user_id": "user2"}'

# 2. Wait a few seconds for worker to process

# 3. Query stats
curl "http://localhost:5000/stats?site_id=test-site"
`;
