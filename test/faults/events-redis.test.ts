import { afterAll, beforeAll, expect, test } from "vitest";
import { setTimeout as pause } from "node:timers/promises";
import { eventually } from "../support/eventually.ts";
import { startOwnRedis } from "../support/own-servers.ts";
import { openEventsCrowd, type EventsCrowd } from "./events-crowd.ts";
import { judgeEvents } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";

// A Redis that forgets nothing of what it answered: what it forgets else is lost, as its persistence is set.
let redis: Awaited<ReturnType<typeof startOwnRedis>>;
let hub: Hub;
beforeAll(async () => {
  redis = await startOwnRedis({ durable: "at once" });
  hub = await openHub({ redisUrl: redis.url });
  await hub.start();
});
afterAll(async () => {
  await hub.close();
  await redis.close();
});

/** Every answer so far was a 202: the door never closed. */
function expectOpenDoor(crowd: EventsCrowd): void {
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
}

test("Redis killed in a loop: events go on, and each is there once", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls });
  for (let round = 0; round < 3; round++) {
    await crowd.more(20);
    await redis.kill();
    await crowd.more(10);
    await redis.start();
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  await judgeEvents(hub, { crowds: [crowd] });
});

test("Redis standing still for longer than a claim lasts: events wait on the disk, and what it carries out late is there once", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  for (let round = 0; round < 2; round++) {
    await crowd.more(20);
    redis.pause();
    await pause(1_500); // longer than CLAIM_IDLE_SECONDS: the standstill itself
    await crowd.more(10);
    redis.resume();
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  expect(crowd.slowestMs()).toBeLessThan(15_000);
  await judgeEvents(hub, { crowds: [crowd] });
});

test("Redis out of memory: events wait on the disk, and the worker empties both all the same", async () => {
  await hub.worker.kill();
  const crowd = openEventsCrowd({ urls: hub.urls });
  await crowd.more(20);
  expect(await hub.redis.xlen(hub.eventsStream)).toBeGreaterThan(0);
  await hub.redis.config("SET", "maxmemory", "1");
  const waiting = await hub.redis.xlen(hub.eventsStream);
  await crowd.more(20);
  expect([await hub.redis.xlen(hub.eventsStream), (await hub.inboxKeys()).some((key) => key.startsWith("events/"))]).toEqual([waiting, true]);
  await hub.worker.start();
  await crowd.more(20);
  await crowd.stop();
  expectOpenDoor(crowd);
  await judgeEvents(hub, { crowds: [crowd], withoutRedis: true });
  expect(await hub.redis.xlen(hub.eventsStream)).toBe(0);
  await hub.redis.config("SET", "maxmemory", "0");
  await judgeEvents(hub, { crowds: [crowd] });
});

test("Redis down from the start: events are accepted and recorded without it, and go through it when it comes", async () => {
  await Promise.all(hub.slots.map((slot) => slot.kill()));
  await redis.kill();
  await hub.start();
  const crowd = openEventsCrowd({ urls: hub.urls });
  await crowd.more(30);
  await crowd.stop();
  await judgeEvents(hub, { crowds: [crowd], withoutRedis: true });
  await redis.start();
  const later = openEventsCrowd({ urls: hub.urls });
  await eventually(() => hub.redis.exists(hub.eventsStream), 1);
  await later.more(20);
  await later.stop();
  for (const each of [crowd, later]) expectOpenDoor(each);
  await judgeEvents(hub, { crowds: [later] });
});

test("FLUSHALL under the worker: what was recorded stays, only what was in the stream is gone, and the group comes back by itself", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls });
  const recorded = async () => (await hub.sql<{ id: string }>("select id::text from events")).map(({ id }) => id);
  for (let round = 0; round < 8; round++) {
    await crowd.more(10);
    const before = await recorded();
    await hub.redis.flushall();
    const after = new Set(await recorded());
    expect(before.filter((id) => !after.has(id))).toEqual([]);
  }
  await crowd.stop();
  expectOpenDoor(crowd);
  await judgeEvents(hub, { crowds: [], mayBeLost: [crowd] });
  await hub.redis.flushall(); // the worker blocks on an empty stream now
  const late = openEventsCrowd({ urls: hub.urls });
  await late.more(20);
  await late.stop();
  await judgeEvents(hub, { crowds: [late] });
});
