import { describe, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { createLog } from "../../src/core/log.ts";
import { openTimeSeries } from "../../src/db/time-series.ts";
import { deleteFigures, FIGURE_TABLES } from "../../src/events/queries.ts";
import { createEventsUpkeep } from "../../src/events/retention.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const DAY_MS = 86_400_000;
const log = createLog("silent", "test");

function upkeep(world: World, at: Date, settings: { retentionDays?: number; rollupRetentionDays?: number }) {
  const { db } = world.context;
  return createEventsUpkeep({
    db, timeSeries: () => openTimeSeries(db), retentionDays: settings.retentionDays, rollupRetentionDays: settings.rollupRetentionDays,
    stopping: new AbortController().signal, clock: { now: () => at }, log,
  }).runOnce();
}

/** What is remembered of ids, as if so many days had gone by. */
async function growOlder(world: World, days: number): Promise<void> {
  for (const table of ["event_ids", "event_batches"]) await world.sql(`update ${table} set recorded_at = recorded_at - interval '${days} days'`);
}

describe.each(["timescale", "native"])("events past their retention (%s)", (kind) => {
  test("go, and their figures stay; the figures go with a retention of their own", async () => {
    const world = await openWorld({ TIME_SERIES: kind });
    const now = new Date();
    const at = (days: number) => new Date(now.getTime() - days * DAY_MS).toISOString();
    await upkeep(world, new Date(now.getTime() - 60 * DAY_MS), {}); // partitions of that time, where they are made ahead; of before there is none
    for (const days of [100, 60, 0]) await world.send({ site_id: "s", event_type: "pageview", path: "/p", user_id: "u", timestamp: at(days) });
    await world.recordAll();
    const left = async () => ({
      events: (await world.sql("select count(*) from events"))[0]!.count,
      old: (await world.stats({ site_id: "s", date: at(60).slice(0, 10) })).total_views,
      today: (await world.stats({ site_id: "s", date: at(0).slice(0, 10) })).total_views,
    });
    await upkeep(world, now, {});
    expect(await left()).toEqual({ events: 3, old: 1, today: 1 });
    await upkeep(world, now, { retentionDays: 30 });
    expect(await left()).toEqual({ events: 1, old: 1, today: 1 });
    await upkeep(world, now, { retentionDays: 30, rollupRetentionDays: 40 });
    expect(await left()).toEqual({ events: 1, old: 0, today: 1 });
    for (const table of ["event_quarters", "event_paths", "event_path_days", "event_user_days", "event_days"]) {
      expect([table, (await world.sql(`select count(*) from ${table}`))[0]!.count]).toEqual([table, 1]);
    }
    await world.close();
  });

  test("a day elsewhere that begins before the first day that is kept never has less than what is kept, whichever rows went already", async () => {
    const world = await openWorld({ TIME_SERIES: kind });
    const views = (path: string, timestamp: string, count: number) => Array.from({ length: count }, () => ({ site_id: "s", event_type: "pageview", path, timestamp }));
    await world.send([...views("/", "2026-03-10T03:00:00Z", 9), ...views("/", "2026-03-11T05:00:00Z", 4), ...views("/new", "2026-03-11T05:00:00Z", 1)]);
    await world.recordAll();
    const topPaths = async () => (await world.stats({ site_id: "s", date: "2026-03-10", tz: "America/Los_Angeles" })).top_paths;
    const kept = [{ path: "/", views: 4 }, { path: "/new", views: 1 }];
    expect(await topPaths()).toEqual(kept);
    for (const table of FIGURE_TABLES) {
      await deleteFigures(world.context.db, table, "s", "2026-03-11");
      expect([table, await topPaths()]).toEqual([table, kept]);
    }
    await world.close();
  });

  test("in batches that are delivered again after it are not counted again", async () => {
    const world = await openWorld({ TIME_SERIES: kind });
    const id = newId();
    const deliver = async () => {
      await world.redis.xadd(world.context.eventsStream, "*", "key", id, "body", JSON.stringify([["s", "pageview", null, null, Date.now(), null]]));
      await world.recordAll();
      return (await world.stats({ site_id: "s" })).total_views;
    };
    expect(await deliver()).toBe(1);
    await growOlder(world, 20);
    await upkeep(world, new Date(), { retentionDays: 1 });
    expect(await deliver()).toBe(1);
    await world.close();
  });

  test("are listed as the latest as long as they are kept, though their figures are gone", async () => {
    const world = await openWorld({ TIME_SERIES: kind, EVENT_RETENTION_DAYS: "5", EVENT_ROLLUP_RETENTION_DAYS: "5" });
    await world.send([1, 2, 3].map((days) => ({ site_id: "s", event_type: `${days} days ago`, timestamp: new Date(Date.now() - days * DAY_MS).toISOString() })));
    await world.recordAll();
    const latest = async () => (await (await fetch(`${world.url}/stats/latest?site_id=s&limit=20`)).json()).events.map(({ event_type }: { event_type: string }) => event_type);
    expect(await latest()).toEqual(["1 days ago", "2 days ago", "3 days ago"]);
    await upkeep(world, new Date(), { rollupRetentionDays: 1 });
    expect(await latest()).toEqual(["1 days ago", "2 days ago", "3 days ago"]);
    await world.close();
  });

  test("do not expire early where a worker's clock is ahead", async () => {
    const world = await openWorld({ TIME_SERIES: kind });
    const now = new Date();
    await upkeep(world, now, {});
    const event = { site_id: "s", event_type: "pageview", path: "/p", user_id: "u", event_id: "once" };
    await world.send(event);
    await world.recordAll();
    await upkeep(world, new Date(now.getTime() + 100 * DAY_MS), { retentionDays: 30, rollupRetentionDays: 40 });
    await world.send(event);
    await world.recordAll();
    expect(await world.sql("select count(*) from events")).toEqual([{ count: 1 }]);
    expect(await world.stats({ site_id: "s" })).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/p", views: 1 }] });
    await world.close();
  });

  test("an id is counted once as long as the retention lasts", async () => {
    const world = await openWorld({ TIME_SERIES: kind });
    const event = { site_id: "s", event_type: "pageview", event_id: "once" };
    const count = async () => {
      await world.send(event);
      await world.recordAll();
      return (await world.stats({ site_id: "s" })).total_views;
    };
    expect(await count()).toBe(1);
    await growOlder(world, 29);
    await upkeep(world, new Date(), { retentionDays: 30 });
    expect(await count()).toBe(1);
    await growOlder(world, 2);
    await upkeep(world, new Date(), { retentionDays: 30 });
    const memory = () => world.sql("select (select count(*) from event_ids) as ids, (select count(*) from event_batches) as batches");
    expect(await memory()).toEqual([{ ids: 0, batches: 2 }]);
    expect(await count()).toBe(2);
    await growOlder(world, 60);
    await upkeep(world, new Date(), { retentionDays: 30 });
    expect(await memory()).toEqual([{ ids: 0, batches: 0 }]);
    await world.close();
  });
});
