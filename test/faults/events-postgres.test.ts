import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { startOwnPostgres } from "../support/own-servers.ts";
import { openEventsCrowd, type EventsCrowd } from "./events-crowd.ts";
import { judgeEvents } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";

let postgres: Awaited<ReturnType<typeof startOwnPostgres>>;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
let hub: Hub;
beforeAll(async () => {
  postgres = await startOwnPostgres();
  proxy = await throughFaultProxy(postgres.uri);
  hub = await openHub({ pgUri: postgres.uri, through: { postgres: new URL(proxy.url).host }, workers: 2 });
  await hub.start();
});
afterAll(async () => {
  await hub.close();
  await proxy.close();
  await postgres.close();
});

/** The door never closed, and nothing was given up for what the database did. */
async function settle(crowd: EventsCrowd): Promise<void> {
  await crowd.stop();
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
  await judgeEvents(hub, { crowds: [crowd] });
}

test("PostgreSQL killed in a loop, amid commits: events go on, each is there once, none is given up", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  for (let round = 0; round < 2; round++) {
    await crowd.more(40);
    await postgres.kill();
    await crowd.more(20);
    await postgres.start();
  }
  await settle(crowd);
});

test("PostgreSQL down: events go on and wait, and all are recorded when it is back", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  await crowd.more(20);
  proxy.set({ down: true });
  await crowd.more(150);
  proxy.set({});
  await settle(crowd);
});

test("PostgreSQL silent amid rows: events go on and wait, and all are recorded when it is back", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5, sizes: [5, 300] });
  await crowd.more(20);
  proxy.set({ blackhole: true });
  await crowd.more(60);
  proxy.set({});
  await settle(crowd);
});

test("connections cut again and again, in the middle of whatever they were at", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5, sizes: [5, 300] });
  for (let round = 0; round < 12; round++) {
    await crowd.more(8);
    await hub.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'connectstorm%'");
  }
  await settle(crowd);
});

test("answers lost after the COMMIT was carried out: what is delivered again changes nothing", async () => {
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  for (const bytes of [1, 5, 20, 60, 100, 200, 400, 800]) {
    proxy.set({ cutAfterBytes: bytes });
    await crowd.more(15);
  }
  proxy.set({});
  await settle(crowd);
});

test("a transaction that is lost before its COMMIT, in a worker that goes on: no user is taken for written who is not", async () => {
  const [worker, other] = [hub.workers[0]!, hub.workers[1]!];
  await other.kill();
  await worker.restart({ FAILPOINTS: "events-written=pause:1500@2" });
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 1, sizes: [40] });
  const standing = "application_name like 'connectstorm%' and state = 'idle in transaction' and query like '%into event_%' and now() - state_change > interval '200 ms'";
  await eventually(async () => (await hub.sql(`select pg_terminate_backend(pid) from pg_stat_activity where ${standing}`)).length, 1);
  await crowd.more(10);
  await settle(crowd);
  await other.start();
});
