import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UNIT_BYTES } from "../../src/events/spool.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { missingOnLinux, servers } from "../support/servers.ts";
import { openEventsCrowd, type EventsCrowd } from "./events-crowd.ts";
import { judgeEvents } from "./events-oracle.ts";
import { openHub, type Hub, type HubSettings } from "./hub.ts";

const MIB = 1024 ** 2;
const FULL = "503 EVENTS_BACKLOG_FULL";

let hub: Hub;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
beforeEach(async () => {
  proxy = await throughFaultProxy(servers.redisUrl());
});
afterEach(async () => {
  await hub.close();
  await proxy.close();
});

const open = async (settings: HubSettings["settings"] = {}, through: HubSettings["through"] = {}) => (
  hub = await openHub({ settings, through: { redis: new URL(proxy.url).host, ...through } }));

/** Until the door closes; then a client of the test's own is told the same. */
async function fill(crowd: EventsCrowd): Promise<void> {
  await eventually(() => (crowd.answers[FULL] ?? 0) > 5, true, 30_000);
  // Of a spool that is all but full a small one might find room yet.
  const events = Array.from({ length: 500 }, () => ({ site_id: "refused", event_type: "pageview" }));
  const refused = await fetch(`${hub.web.url}/events`, { method: "POST", body: JSON.stringify(events) });
  expect([refused.status, refused.headers.get("retry-after"), await refused.json()]).toEqual([503, "30", {
    error: "As many events are waiting to be counted as the server may hold. Try again later.", code: "EVENTS_BACKLOG_FULL", request_id: expect.any(String),
  }]);
  await crowd.stop();
}

describe("with no worker there", () => {
  test("and Redis down, the spool fills up: what is refused is not there, what was accepted is, and the door opens again by itself", async () => {
    await open({ MAX_EVENT_SPOOL_BYTES: "40000" });
    await hub.web.start();
    proxy.set({ down: true });
    const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
    await fill(crowd);
    const sizes = (await hub.inboxKeys()).filter((key) => key.startsWith("events/")).map((key) => Number(key.split(".").at(-1)));
    const waiting = sizes.reduce((sum, size) => sum + size + UNIT_BYTES, 0);
    expect([waiting > 20_000, waiting <= 40_000]).toEqual([true, true]);
    proxy.set({});
    await hub.worker.start();
    proxy.set({ down: true });
    await judgeEvents(hub, { crowds: [crowd], withoutRedis: true });
    const late = openEventsCrowd({ urls: hub.urls });
    await late.more(20);
    proxy.set({});
    await late.stop();
    await judgeEvents(hub, { crowds: [late] });
  });

  test("the stream fills up: what is refused is not there, what was accepted is, and the door opens again by itself", async () => {
    await open({ MAX_EVENT_BACKLOG_BYTES: String(MIB) });
    await hub.web.start();
    const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5, sizes: [500] });
    await fill(crowd);
    expect(await hub.redis.memory("USAGE", hub.eventsStream)).toBeGreaterThan(MIB);
    await hub.worker.start();
    await judgeEvents(hub, { crowds: [crowd] });
    const late = openEventsCrowd({ urls: hub.urls });
    await late.more(20);
    await late.stop();
    await judgeEvents(hub, { crowds: [late] });
  });
});

test("Redis takes events and its answers are lost: they are in the stream and on the disk, and are there once", async () => {
  await open();
  await hub.start();
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 1 });
  for (const bytes of [1, 2, 5, 20, 60, 100, 200, 400]) {
    await crowd.more(5);
    proxy.set({ cutAfterBytes: bytes });
    await crowd.more(10);
    proxy.set({});
  }
  await crowd.stop();
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
  await eventually(() => /"repeated":[1-9]/.test(hub.worker.output()) || hub.worker.output().includes("that waited on the disk"), true);
  await judgeEvents(hub, { crowds: [crowd] });
});

test("with the inbox in S3, events wait in the bucket while Redis is down; with both down the door is closed, and opens by itself", async () => {
  const s3 = await throughFaultProxy(servers.s3().endpoint);
  await open({ INBOX: "s3" }, { s3: new URL(s3.url).host });
  await hub.start();
  proxy.set({ down: true });
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  await crowd.more(15);
  s3.set({ down: true });
  await eventually(() => (crowd.answers["503 UNAVAILABLE"] ?? 0) > 5, true, 30_000);
  s3.set({});
  await crowd.more(15);
  await crowd.stop();
  expect(Object.keys(crowd.answers).sort()).toEqual(["202", "503 UNAVAILABLE"]);
  await judgeEvents(hub, { crowds: [crowd], withoutRedis: true });
  proxy.set({});
  await judgeEvents(hub, { crowds: [crowd] });
  await s3.close();
});

describe.skipIf(missingOnLinux("TEST_STRACE"))("a disk that fails to flush", () => {
  test("gets no 202 for events that have to wait on it, until it flushes again", async () => {
    await open();
    await hub.worker.start();
    await hub.web.start({ UV_THREADPOOL_SIZE: "1" }, { strace: ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=40+"] });
    proxy.set({ down: true });
    const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.3 });
    const refused = () => Object.entries(crowd.answers).reduce((sum, [answer, times]) => sum + (answer.startsWith("503") ? times : 0), 0);
    await eventually(() => refused() > 20, true, 60_000);
    const acknowledged = crowd.answers[202];
    await eventually(() => refused() > 40, true, 60_000);
    expect(crowd.answers[202]).toBe(acknowledged);
    proxy.set({});
    await hub.web.restart();
    await crowd.more(10);
    await crowd.stop();
    await judgeEvents(hub, { crowds: [crowd] });
  });
});
