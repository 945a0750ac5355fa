import { afterEach, beforeEach, expect, test } from "vitest";
import { createLog } from "../../src/core/log.ts";
import { openDb, type Database } from "../../src/db/pool.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";

let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
let db: Database;
beforeEach(async () => {
  proxy = await throughFaultProxy(servers.pgUri());
  db = openDb({ uri: proxy.url, poolSize: 1, name: "test", log: createLog("silent", "test") });
});
afterEach(async () => {
  await db.close();
  await proxy.close();
});

const UNAVAILABLE = { name: "Unavailable", dependency: "postgres" };

test("a request's statement is given up in its time, and the connection that fell silent does not stay in the pool", async () => {
  await db.query("select 1");
  proxy.set({ blackhole: true });
  await expect(db.within(200).query("select 1")).rejects.toMatchObject(UNAVAILABLE);
  proxy.set({});
  expect((await db.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("a request's transaction that could not begin in time is not carried out later", async () => {
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  const holder = db.transaction(() => held);
  let carriedOut = 0;
  await expect(db.within(200).transaction(async () => void carriedOut++)).rejects.toMatchObject(UNAVAILABLE);
  release();
  await holder;
  await db.within(5_000).transaction(async (tx) => void (await tx.query("select 1")));
  expect(carriedOut).toBe(0);
});

test("a request's transaction that has begun takes its time", async () => {
  await db.query("select 1"); // connecting takes a time of its own
  const { rows } = await db.within(1_500).transaction((tx) => tx.query("select 1 as one from pg_sleep(2)"));
  expect(rows).toEqual([{ one: 1 }]);
});
