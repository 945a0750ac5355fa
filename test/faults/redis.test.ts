import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { startOwnRedis } from "../support/own-servers.ts";
import { openCrowd, type Crowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

/** RECONCILE_AGE_SECONDS and RECONCILE_SECONDS together, as the hub sets them. */
const PERIOD_MS = 2_000;
/** For settling what was queued again, and for looking, on a busy machine. */
const SLACK_MS = 4_000;

let redis: Awaited<ReturnType<typeof startOwnRedis>>;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
let hub: Hub;
beforeEach(async () => {
  redis = await startOwnRedis();
  proxy = await throughFaultProxy(redis.url);
  hub = await openHub({ redisUrl: redis.url, through: { redis: new URL(proxy.url).host } });
  await hub.start();
});
afterEach(async () => {
  await hub.close();
  await proxy.close();
  await redis.close();
});

/** Every answer so far was a 202: the door never closed. */
function expectOpenDoor(crowd: ReturnType<typeof openCrowd>): void {
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
}

test("Redis killed in a loop: uploads go on, and each is there once", async () => {
  const crowd = openCrowd({ urls: hub.urls });
  for (let round = 0; round < 5; round++) {
    await crowd.more(30);
    if (round === 0) takeBaseline(hub);
    await redis.kill();
    await crowd.more(10);
    await redis.start();
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  await judge(hub, { crowds: [crowd] });
});

describe.each([
  ["down", { down: true }],
  ["silent", { blackhole: true }],
  ["slow", { latencyMs: 400 }],
])("Redis %s", (_how, faults) => {
  test("uploads go on with a null stream id, nothing piles up in memory, and all are settled when it is back", async () => {
    const crowd = openCrowd({ urls: hub.urls, everyMs: 10 });
    await crowd.more(50);
    takeBaseline(hub);
    proxy.set(faults);
    await crowd.more(10);
    const since = crowd.acknowledged.size;
    await crowd.more(150, 60_000);
    expect([...crowd.acknowledged.values()].slice(since).every(({ streamId }) => streamId === null)).toBe(true);
    proxy.set({});
    await crowd.more(20);
    await eventually(() => [...crowd.acknowledged.values()].at(-1)!.streamId !== null, true);
    await crowd.stop();
    expectOpenDoor(crowd);
    expect(crowd.slowestMs()).toBeLessThan(15_000);
    await judge(hub, { crowds: [crowd] });
  });
});

test("FLUSHALL while the worker waits for entries and amid uploads: the group comes back by itself, and nothing is lost", async () => {
  const crowd = openCrowd({ urls: hub.urls });
  for (let round = 0; round < 10; round++) {
    await crowd.more(25);
    if (round === 0) takeBaseline(hub);
    await hub.redis.flushall();
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  await judge(hub, { crowds: [crowd] });
  await hub.redis.flushall(); // the worker blocks on an empty stream now
  const late = openCrowd({ urls: hub.urls });
  await late.more(20);
  await late.stop();
  await judge(hub, { crowds: [late] });
});

test("what the stream lost is settled within two reconcile periods, whether the worker was away or stood still", async () => {
  expect(hub.config.RECONCILE_AGE_SECONDS + hub.config.RECONCILE_SECONDS).toBe(PERIOD_MS / 1000);
  const crowds: Crowd[] = [];
  /** Uploads that are accepted while no worker reads the stream, and then are not in it any more. @returns after how long the last of them is a file */
  async function loseFromStream(away: () => unknown, back: () => unknown): Promise<number> {
    await away();
    const crowd = openCrowd({ urls: hub.urls, everyMs: 0 });
    crowds.push(crowd);
    await crowd.more(40);
    await crowd.stop();
    await hub.redis.del(hub.stream);
    await back();
    const startedAt = performance.now();
    const ids = [...crowd.acknowledged.keys()];
    await eventually(async () => (await hub.sql("select id from files where id = any($1::uuid[])", [ids])).length, ids.length);
    const tookMs = performance.now() - startedAt;
    // Stopped while it takes them out of the inbox, blobs last, the worker would keep the web process from writing there.
    await eventually(async () => (await hub.inboxKeys()).filter((key) => /^(manifests|blobs)\//.test(key)), []);
    return tookMs;
  }
  /** Others use the machine, too: once of three times is enough. A reconciler that is slower than it says is so each time. */
  async function fastestOf(lose: () => Promise<number>): Promise<number> {
    let fastestMs = Infinity;
    for (let round = 0; round < 3 && fastestMs >= 2 * PERIOD_MS + SLACK_MS; round++) fastestMs = Math.min(fastestMs, await lose());
    return fastestMs;
  }
  expect(await fastestOf(() => loseFromStream(() => hub.worker.kill(), () => hub.worker.start()))).toBeLessThan(2 * PERIOD_MS + SLACK_MS);
  // A run of the reconciler has just ended, and these are too young for it: they wait as long as any upload may have to.
  expect(await fastestOf(() => loseFromStream(() => hub.worker.pause(), () => hub.worker.resume()))).toBeLessThan(2 * PERIOD_MS + SLACK_MS);
  await judge(hub, { crowds });
});

test("Redis out of memory: uploads go on without the stream, the worker empties it all the same", async () => {
  const crowd = openCrowd({ urls: hub.urls });
  await crowd.more(30);
  await hub.worker.kill();
  await crowd.more(50);
  await hub.redis.config("SET", "maxmemory", "1");
  await crowd.more(50);
  expect([...crowd.acknowledged.values()].at(-1)!.streamId).toBeNull();
  await hub.worker.start();
  await eventually(() => hub.redis.xlen(hub.stream), 0);
  await hub.redis.config("SET", "maxmemory", "0");
  await crowd.stop();
  expectOpenDoor(crowd);
  await judge(hub, { crowds: [crowd] });
});

test("Redis standing still for longer than a claim lasts: entries are taken over, and each upload is there once", async () => {
  const crowd = openCrowd({ urls: hub.urls });
  for (let round = 0; round < 3; round++) {
    await crowd.more(30);
    if (round === 0) takeBaseline(hub);
    redis.pause();
    await pause(1_500); // longer than CLAIM_IDLE_SECONDS: the standstill itself
    redis.resume();
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  await judge(hub, { crowds: [crowd] });
});
