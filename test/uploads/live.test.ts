import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSite } from "../../src/main/site.ts";
import { openWorkload } from "../../src/main/workload.ts";
import { addTime, percentiles, type Histogram } from "../../src/uploads/live/latency.ts";
import { createMeter } from "../../src/uploads/live/meter.ts";
import { openEvents } from "../support/events.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

const JSON_WANTED = { headers: { Accept: "application/json" } };
const sum = (values: (number | null)[]) => values.reduce<number>((total, value) => total + (value ?? 0), 0);
const figuresAt = async (url: string) => (await fetch(`${url}/api/live`, JSON_WANTED)).json();
const historyAt = async (url: string, range = "15m") => (await fetch(`${url}/api/history?range=${range}`)).json();

/** A web process beside the world's: what both use is shared (a disk store is opened once a process), what it counts is its own. */
async function openSecondSite({ context }: World) {
  const { slices, redis, stream, clock, log } = context;
  const name = `beside-${randomBytes(3).toString("hex")}`;
  const meter = createMeter({ slices, redis, stream, name, clock, log });
  const site = await openSite({ ...context, name, meter });
  return {
    url: site.url(), site, context: { meter },
    async close() {
      await site.stop();
      await meter.close();
    },
  };
}

describe("the figures", () => {
  let world: World;
  let second: Awaited<ReturnType<typeof openSecondSite>>;
  beforeAll(async () => {
    world = await openWorld();
    second = await openSecondSite(world);
  });
  afterAll(async () => {
    await second.close();
    await world.close();
  });

  test("are those of known uploads, of all processes together, and every process tells the same", async () => {
    const sizes = [10, 200, 3_000];
    for (const size of sizes) expect((await world.put(`${size}.bin`, "x".repeat(size))).status).toBe(202);
    for (const size of sizes) expect((await fetch(`${second.url}/api/upload/second-${size}.bin`, { method: "PUT", body: "y".repeat(size) })).status).toBe(202);
    const waiting = await figuresAt(world.url);
    expect(waiting).toMatchObject({ redis: 6, queue: { entries: 6, oldest_seconds: expect.any(Number) }, timescale: 0, degraded: [] });
    expect(waiting.queue.oldest_seconds).toBeLessThan(60);
    const settlingSince = performance.now();
    await world.settleAll();
    const settledInMs = performance.now() - settlingSince;
    await Promise.all([world.context.meter.tell(), second.context.meter.tell()]);
    for (const url of [world.url, second.url]) {
      const history = await historyAt(url);
      expect([sum(history.accepted), sum(history.accepted_bytes), sum(history.settled), sum(history.settled_bytes), sum(history.failed)]).toEqual([6, 6_420, 6, 6_420, 0]);
      expect(history.at.every((at: number, i: number) => i === 0 || at - history.at[i - 1] === 5_000)).toBe(true);
      expect(history.at.length).toBe(180);
    }
    await eventually(async () => (await Promise.all([world.url, second.url].map(figuresAt))).map(({ timescale, queue }) => [timescale, queue.entries]), [[6, 0], [6, 0]]);
    const [one, other] = await Promise.all([figuresAt(world.url), figuresAt(second.url)]);
    for (const figures of [one, other]) {
      expect(figures).toMatchObject({
        queue: { entries: 0, oldest_seconds: null }, timescale: 6, latency_ms: one.latency_ms, failures: { recent: 0, retrying: 0, dead_letters: 0 },
        workers: [], storage: { kind: "disk", used_bytes: 6_420, free_bytes: expect.any(Number) }, audit: { acknowledged: { files: 6, bytes: 6_420 }, balanced: true }, unattended: false,
      });
    }
    for (const url of [world.url, second.url]) { // how much a second, exactly: live-exact.test.ts
      await eventually(async () => {
        const { accepted_per_second, bytes_per_second, settled_per_second } = await figuresAt(url);
        return Math.min(accepted_per_second, bytes_per_second, settled_per_second) > 0;
      }, true);
    }
    const [ledger] = await world.sql<{ p50: number }>("select percentile_disc(0.5) within group (order by settle_ms) as p50 from file_events");
    expect(Math.abs(one.latency_ms.p50 - ledger!.p50)).toBeLessThan(0.1 * ledger!.p50 + settledInMs + 20); // the ledger's is the time when its statement began, the meter's that after the COMMIT
    expect(one.latency_ms.p50).toBeLessThanOrEqual(one.latency_ms.p99);
  });

  test("tell of attempts that fail, of uploads that are tried again, and of dead letters", async () => {
    const letters = deadLettersIn(() => world);
    await letters.makeDead();
    await letters.allow();
    await world.context.meter.tell();
    await eventually(async () => (await figuresAt(second.url)).failures, { recent: 3, retrying: 0, dead_letters: 1 });
    expect(sum((await historyAt(second.url)).failed)).toBe(3);
    const day = await historyAt(second.url, "24h");
    expect(day.failed.at(-1) + day.failed.at(-2)).toBe(1);
  });

  test("tell what each worker is at, through every process, until it goes", async () => {
    const workload = await openWorkload(world.context);
    await eventually(async () => (await figuresAt(second.url)).workers, [expect.objectContaining({ name: world.context.name, state: "idle", settled: 0, active_at: null })]);
    await world.put("one.txt", "one");
    await eventually(async () => (await figuresAt(second.url)).workers[0], expect.objectContaining({ settled: 1, active_at: expect.stringMatching(/Z$/) }));
    await workload.stop();
    await eventually(async () => (await figuresAt(second.url)).workers, [], 3_000); // at once, and not when its key expires
  });

  test("of an upload that nobody settles are told as unattended", async () => {
    await world.put("lonely.txt", "lonely");
    expect((await figuresAt(world.url)).unattended).toBe(false);
    const [[id, fields]] = (await world.redis.xrange(world.stream, "-", "+")) as [[string, string[]]];
    await world.redis.xdel(world.stream, id);
    const old = `${Date.now() - 60_000}-0`;
    await world.redis.del(world.stream);
    await world.redis.xadd(world.stream, old, ...fields);
    await eventually(async () => (await figuresAt(world.url)).unattended, true);
    expect(await (await fetch(`${world.url}/dashboard`)).text()).toContain("<p data-unattended>No worker is running");
    await world.redis.xgroup("CREATE", world.stream, "settlers", "0").catch(() => {});
    await world.settleAll();
    await eventually(async () => (await figuresAt(world.url)).unattended, false);
  });

  test("a thousand open dashboards cost one reading and one message a tick, and end at once when the process does", async () => {
    const third = await openSecondSite(world);
    const readers = await Promise.all(Array.from({ length: 1_000 }, () => openEvents(`${third.url}/api/live`)));
    await eventually(() => third.site.live().streams, 1_000);
    for (const reader of readers) await eventually(() => reader.last("figures") !== undefined, true);
    const before = third.site.live();
    const heard = readers.map(({ told }) => told.length);
    await eventually(() => third.site.live().encoded >= before.encoded + 3, true);
    const after = third.site.live();
    expect(after.encoded - before.encoded).toBe(3);
    expect(after.reads - before.reads).toBeLessThanOrEqual(4); // one may be under way
    await eventually(() => readers.every(({ told }, i) => told.length >= heard[i]! + 3), true);
    const startedAt = performance.now();
    await third.close();
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await Promise.all(readers.map(({ whenClosed }) => whenClosed));
    expect(third.site.live()).toMatchObject({ streams: 0, dropped: 0 });
    const { reads } = third.site.live();
    await world.context.meter.tell();
    expect(third.site.live().reads).toBe(reads);
  }, 60_000);

  test("come with the newest uploads, what waits and what failed among them, when these change", async () => {
    const reader = await openEvents(`${world.url}/api/live`);
    await eventually(() => reader.last("recent") !== undefined, true);
    await world.put("waits.txt", "waits");
    const newest = () => reader.last("recent")?.data.files.slice(0, 1).map(({ name, status }: { name: string; status: string }) => [name, status]);
    await eventually(newest, [["waits.txt", "accepted"]]);
    await world.settleAll();
    await eventually(newest, [["waits.txt", "stored"]]);
    expect(reader.last("recent")!.data.files.map(({ status }: { status: string }) => status)).toContain("failed");
    await reader.close();
    await eventually(() => world.site.live().streams, 0);
  });
});

describe.each(["timescale", "native"] as const)("the history (%s)", (kind) => {
  let world: World;
  beforeAll(async () => void (world = await openWorld({ TIME_SERIES: kind })));
  afterAll(() => world.close());

  test("of 24 hours and 30 days has every upload once, in the time it was accepted, however late it was settled", async () => {
    const now = Date.now();
    for (const [hoursAgo, size] of [[0, 1], [3, 20], [30, 300], [24 * 29, 4_000], [24 * 40, 50_000]] as const) {
      world.setClock(new Date(now - hoursAgo * 3_600_000));
      await world.put(`${hoursAgo}.bin`, "x".repeat(size));
    }
    world.setClock(undefined);
    await world.settleAll();
    const day = await historyAt(world.url, "24h");
    expect([day.at.length, day.every_seconds, sum(day.stored), sum(day.stored_bytes), sum(day.failed)]).toEqual([96, 900, 2, 21, 0]);
    const at = day.at.findLastIndex((begins: number) => begins <= now - 3 * 3_600_000);
    expect([day.stored[at], day.stored_bytes[at]]).toEqual([1, 20]);
    const month = await historyAt(world.url, "30d");
    expect([month.at.length, month.every_seconds, sum(month.stored), sum(month.stored_bytes)]).toEqual([120, 21_600, 4, 4_321]);
    expect(await world.sql("select sum(files)::int as files, sum(size_bytes)::int as bytes from quarter_hours")).toEqual([{ files: 5, bytes: 54_321 }]);
  });

  test.each(["1h", "", "30d&range=24h"])("of the range '%s' is refused by name", async (range) => {
    const answer = await fetch(`${world.url}/api/history?range=${range}`);
    expect([answer.status, await answer.json()]).toEqual([400, expect.objectContaining({ code: "INVALID_QUERY", error: expect.stringContaining("range") })]);
  });
});

test("without Redis what it knows is unknown and not zero, the rest is told, and what was counted meanwhile is told later", async () => {
  const redis = await throughFaultProxy(servers.redisUrl());
  const world = await openWorld({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500" });
  try {
    redis.set({ down: true });
    await eventually(async () => (await figuresAt(world.url)).degraded, ["redis"]);
    expect((await world.put("dark.txt", "dark")).status).toBe(202);
    expect(await figuresAt(world.url)).toMatchObject({
      redis: null, queue: { entries: null, oldest_seconds: null }, accepted_per_second: null, settled_per_second: null, bytes_per_second: null,
      latency_ms: { p50: null, p95: null, p99: null }, failures: { recent: null, retrying: 0, dead_letters: 0 }, workers: null, timescale: 0, unattended: false,
    });
    expect((await fetch(`${world.url}/api/history`)).status).toBe(503);
    const page = await (await fetch(`${world.url}/dashboard`)).text();
    expect(page).toMatch(/data-figure="accepted">–</);
    expect(page).toContain('<p class="empty" id="workers-unknown">');
    redis.set({});
    await eventually(async () => sum((await historyAt(world.url)).accepted ?? []), 1);
  } finally {
    redis.set({});
    await eventually(() => world.context.redis.status, "ready");
    await world.close();
    await redis.close();
  }
});

test("a worker whose database is away says that it is paused, and why", async () => {
  const postgres = await throughFaultProxy(servers.pgUri());
  const world = await openWorld({}, { databaseHost: new URL(postgres.url).host });
  const workload = await openWorkload(world.context);
  try {
    postgres.set({ down: true });
    await world.put("held.txt", "held up");
    await eventually(async () => (await figuresAt(world.url)).workers, [expect.objectContaining({ state: "paused", because: "postgres" })]);
    expect(await figuresAt(world.url)).toMatchObject({ timescale: null, failures: { retrying: null, dead_letters: null }, storage: { used_bytes: null }, audit: null });
  } finally {
    postgres.set({});
    await workload.stop();
    await world.close();
    await postgres.close();
  }
});

test("a percentile is 5 % off at most", () => {
  const histogram: Histogram = {};
  for (let ms = 1; ms <= 1_000; ms++) addTime(histogram, ms);
  const found = percentiles(histogram, [0.5, 0.95, 0.99]);
  for (const [share, exact] of [[0.5, 500], [0.95, 950], [0.99, 990]] as const) expect(Math.abs(found[share]! - exact) / exact).toBeLessThan(0.06);
  expect(percentiles({}, [0.5])).toEqual({ 0.5: null });
});
