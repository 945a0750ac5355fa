import { afterEach, beforeEach, describe, expect, test } from "vitest";
import pg from "pg";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { startOwnPostgres } from "../support/own-servers.ts";
import { openCrowd, type Crowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

let postgres: Awaited<ReturnType<typeof startOwnPostgres>>;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
let hub: Hub;
beforeEach(async () => {
  postgres = await startOwnPostgres();
  proxy = await throughFaultProxy(postgres.uri);
  hub = await openHub({ pgUri: postgres.uri, through: { postgres: new URL(proxy.url).host }, workers: 2, settings: { CONSUMER_BATCH_SIZE: "5" } });
  await hub.start();
});
afterEach(async () => {
  await hub.close();
  await proxy.close();
  await postgres.close();
});

/** The door never closed, and nobody was blamed for what the database did. */
async function expectPatience(crowd: Crowd): Promise<void> {
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
  expect(await hub.sql("select upload_id from dead_letters")).toEqual([]);
  expect(await hub.sql("select upload_id from settle_attempts")).toEqual([]);
}

test("PostgreSQL killed in a loop, amid commits: uploads go on, no attempt is spent, each upload is there once", async () => {
  const crowd = openCrowd({ urls: hub.urls, keyless: 0.5 });
  for (let round = 0; round < 3; round++) {
    await crowd.more(40);
    if (round === 0) takeBaseline(hub);
    await postgres.kill();
    await crowd.more(20);
    await postgres.start();
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

describe.each([["down", { down: true }], ["silent", { blackhole: true }]])("PostgreSQL %s", (_how, faults) => {
  test("uploads go on and wait, pages say kindly what they cannot show, and all is settled when it is back", async () => {
    const crowd = openCrowd({ urls: hub.urls, everyMs: 20, keyless: 1 });
    await crowd.more(20);
    takeBaseline(hub);
    proxy.set(faults);
    await crowd.more(60, 60_000);
    for (const path of ["/dashboard", "/upload"]) {
      const page = await fetch(hub.web.url + path, { headers: { Accept: "text/html" } });
      expect([path, page.status]).toEqual([path, 200]);
      expect(await page.text()).not.toMatch(/ECONN|timeout expired| at .*\.js/);
    }
    proxy.set({});
    await crowd.stop();
    await judge(hub, { crowds: [crowd], withinMs: 80_000 }); // a silent connection is given up after 35 s
    await expectPatience(crowd);
  });
});

test("connections cut again and again, in the middle of whatever they were at", async () => {
  const crowd = openCrowd({ urls: hub.urls, keyless: 0.5 });
  for (let round = 0; round < 15; round++) {
    await crowd.more(10);
    if (round === 0) takeBaseline(hub);
    await hub.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'connectstorm%'");
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

test("answers lost after the COMMIT was carried out: what is delivered again changes nothing", async () => {
  const crowd = openCrowd({ urls: hub.urls, keyless: 1 });
  for (const bytes of [1, 2, 5, 20, 60, 100, 200, 400, 800, 1_600]) {
    proxy.set({ cutAfterBytes: bytes });
    await crowd.more(15);
  }
  proxy.set({});
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

test("every connection of the pool held: who needs one is told within seconds, and uploads go on", async () => {
  const crowd = openCrowd({ urls: hub.urls, everyMs: 30, keyless: 1 });
  await crowd.more(20);
  takeBaseline(hub);
  const holder = new pg.Client({ connectionString: hub.databaseUri });
  await holder.connect();
  await holder.query("begin");
  await holder.query("lock table files in access exclusive mode");
  const waiting = Array.from({ length: 5 }, () => fetch(`${hub.web.url}/api/files`)); // PG_POOL_SIZE of them
  const startedAt = Date.now();
  const refused = await fetch(`${hub.web.url}/api/files`);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
  expect(Date.now() - startedAt).toBeLessThan(6_500);
  await crowd.more(20);
  await holder.query("rollback");
  await holder.end();
  await Promise.all(waiting);
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});
