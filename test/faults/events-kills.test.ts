import { afterAll, beforeAll, describe, test } from "vitest";
import type { FailpointName } from "../../src/core/failpoints.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openEventsCrowd } from "./events-crowd.ts";
import { judgeEvents } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";
import { startDoomed } from "./kill-sweeps.ts";

/** One system, of which a process is killed at every step that events take, one after the other. */
const LONG = process.env.FAULTS === "long";
const TIMES = LONG ? [1, 2, 3, 5, 8, 13] : [1, 3];
const SPOOL_TIMES = LONG ? TIMES : [1];

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

const eachTime = (steps: readonly FailpointName[], times = TIMES) => steps.flatMap((step) => times.map((time) => [step, time] as const));

describe("through the stream, web killed", () => {
  test.each(eachTime(["events-appended"]))("at %s, the %i. time: what is sent again is there once", async (step, time) => {
    await sweep("web", step, time);
  });
});

describe("through the stream, the worker killed", () => {
  test.each(eachTime(["batch-read", "events-written", "events-recorded", "batch-acknowledged"]))("at %s, the %i. time", async (step, time) => {
    await sweep("worker", step, time);
  });
});

describe("through the spool, web killed", () => {
  test.each(eachTime(["events-spooled"], SPOOL_TIMES))("at %s, the %i. time: what is sent again is there once", async (step, time) => {
    await sweep("web", step, time, { down: true });
  });
});

describe("through the spool, the worker killed", () => {
  test.each(eachTime(["events-written", "events-recorded", "spool-removed"], SPOOL_TIMES))("at %s, the %i. time", async (step, time) => {
    await sweep("worker", step, time, { down: true });
  });
});

/** One process dies there, amid events, and is started again; the clients go on as if nothing were. */
async function sweep(which: "web" | "worker", step: FailpointName, time: number, faults: { down?: boolean } = {}): Promise<void> {
  const doomed = await startDoomed(hub[which], step, time);
  proxy.set(faults);
  // What is delivered again is known by its batch alone where its events have no ids.
  const crowd = openEventsCrowd({ urls: hub.urls, everyMs: 30, keyless: which === "worker" && time === 1 ? 1 : 0.3 });
  await doomed.died();
  proxy.set({});
  await hub[which].start();
  await crowd.more(15);
  await crowd.stop();
  await judgeEvents(hub, { crowds: [crowd] });
}
