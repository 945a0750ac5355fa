import { afterAll, beforeAll, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { keyOf, openEventsCrowd } from "./events-crowd.ts";
import { judgeEvents, type EventsClients } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";

let hub: Hub;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
beforeAll(async () => {
  proxy = await throughFaultProxy(servers.redisUrl());
  hub = await openHub({ through: { redis: new URL(proxy.url).host } });
  await hub.start();
});
afterAll(async () => {
  await hub.close();
  await proxy.close();
});

const NO_BATCH = "it is no batch of events";
const now = Date.now();
/** A list of events with another one, good, before and behind it. */
const amid = (...event: unknown[]) => JSON.stringify([["a", "b", null, null, now, null], event, ["a", "b", null, null, now, null]]);
/** Some are no list of events at all; of the others the event in the middle is at fault, and those around it are counted. */
const LISTS: [what: string, body: string, reason: string | RegExp][] = [
  ["no JSON", "[[", NO_BATCH],
  ["a zero byte", "\0", NO_BATCH],
  ["no list", "{}", NO_BATCH],
  ["an empty list", "[]", NO_BATCH],
  ["an event that lacks its time", amid("a", "b", null, null), NO_BATCH],
  ["an event with half a millisecond", amid("a", "b", null, null, now + 0.5, null), NO_BATCH],
  ["a character that PostgreSQL does not take", amid("a", "b", "/\0", null, now, null), /invalid byte sequence|unsupported Unicode/],
  ["half a character", amid("a", "pageview", "/\ud800", null, now, null), /Unicode|invalid/],
  ["a site that is too long", amid("s".repeat(300), "b", null, null, now, null), /too long/],
  ["a time that PostgreSQL does not know", amid("a", "b", null, null, 8.64e15, null), /timestamp|date|time/],
  ["a time that no calendar has", amid("a", "b", null, null, 8.65e15, null), NO_BATCH],
  ["a time before there were any", amid("a", "b", null, null, -1, null), NO_BATCH],
];

/** They were put into the stream, and never came through the door. */
function oracleOf(times: number): EventsClients {
  const event = { site_id: "a", event_type: "b", timestamp: new Date(now).toISOString() };
  return { all: new Map([[keyOf({ ...event, path: null }), { event, acknowledged: times, sent: times }]]), refusals: () => [] };
}

test("what no web process would put into the stream becomes a dead letter, alone, and all others are recorded", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls });
  await crowd.more(10);
  const put = async (fields: Record<string, string>) => (await hub.redis.xadd(hub.eventsStream, "*", ...Object.entries(fields).flat()))!;
  const expected = new Map<string, string | RegExp>();
  expected.set(await put({ of: "nobody" }), NO_BATCH);
  expected.set(await put({ key: "no id", body: amid("a", "b", null, null, now, null) }), NO_BATCH);
  expected.set(await put({ key: newId().toUpperCase(), body: amid("a", "b", null, null, now, null) }), NO_BATCH);
  for (const [, body, reason] of LISTS) expected.set(await put({ key: newId(), body }), reason);
  await crowd.more(20);
  await crowd.stop();
  const faulty = LISTS.filter(([, , reason]) => reason !== NO_BATCH).length;
  await judgeEvents(hub, { crowds: [crowd, oracleOf(2 * faulty)], deadLetters: expected.size });
  const dead = await hub.sql<{ stream_id: string; reason: string; events: number | null }>("select stream_id, reason, events from event_dead_letters");
  expect(dead.filter(({ events }) => events === 1).length).toBe(faulty);
  const found = new Map(dead.map(({ stream_id, reason }) => [stream_id, reason]));
  for (const [streamId, reason] of expected) expect(found.get(streamId)).toMatch(reason);
});
