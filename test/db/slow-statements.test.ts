import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLog } from "../../src/core/log.ts";
import { openDb, type Database } from "../../src/db/pool.ts";
import { createDatabase } from "../support/places.ts";

let database: Awaited<ReturnType<typeof createDatabase>>;
let db: Database;
let onlooker: Database;
beforeEach(async () => {
  database = await createDatabase(`slow_${randomBytes(6).toString("hex")}`);
  const log = createLog("silent", "test");
  db = openDb({ uri: database.uri, poolSize: 2, name: "requests", log });
  onlooker = openDb({ uri: database.uri, poolSize: 2, name: "onlooker", log });
  await onlooker.query("create table files (id int)");
});
afterEach(async () => {
  await db.close();
  await onlooker.close();
  await database.drop();
});

async function connections(): Promise<number> {
  const { rows } = await onlooker.query<{ count: number }>(
    "select count(*) as count from pg_stat_activity where datname = current_database() and application_name = 'requests'");
  return rows[0]!.count;
}

async function timeout(target: Pick<Database, "query">): Promise<string> {
  return (await target.query<{ statement_timeout: string }>("show statement_timeout")).rows[0]!.statement_timeout;
}

test("requests whose statements are slow hold no more connections of the server than the pool may have", async () => {
  const most = await onlooker.transaction(async (holder) => {
    await holder.query("lock table files in access exclusive mode");
    const seen: number[] = [];
    const endsAt = performance.now() + 5_500; // twice the time after which a connection that says nothing is dropped
    while (performance.now() < endsAt) {
      const asked = await Promise.allSettled(Array.from({ length: 6 }, () => db.within(300).query("select id from files")));
      for (const answer of asked) expect(answer).toMatchObject({ status: "rejected", reason: { name: "Unavailable", dependency: "postgres" } });
      seen.push(await connections());
    }
    return Math.max(...seen);
  });
  expect(most).toBeLessThanOrEqual(2);
  expect((await db.within(5_000).query("select id from files")).rows).toEqual([]);
});

test("a statement that is too slow for a request costs it no connection", async () => {
  const one = openDb({ uri: database.uri, poolSize: 1, name: "requests", log: createLog("silent", "test") });
  const pid = async () => (await one.query<{ pid: number }>("select pg_backend_pid() as pid")).rows;
  const before = await pid();
  await expect(one.within(200).query("select pg_sleep(5)")).rejects.toMatchObject({ name: "Unavailable", dependency: "postgres" });
  expect(await pid()).toEqual(before);
  await one.close();
});

test("who waited for a connection longer than the budget asks nothing any more", async () => {
  await onlooker.query("create sequence asked");
  const holders = [1, 2].map(() => db.query("select pg_sleep(0.6)"));
  await expect(db.within(200).query("select nextval('asked')")).rejects.toMatchObject({ name: "Unavailable", dependency: "postgres" });
  await Promise.all(holders);
  await Promise.all([1, 2, 3].map(() => db.query("select 1")));
  expect((await onlooker.query("select is_called from asked")).rows).toEqual([{ is_called: false }]);
});

test("every statement has the time of whoever asks, on whichever connection, and a request's transaction has all of it", async () => {
  const patient = "30s", request = db.within(1_500);
  const ask = (who: Pick<Database, "query">) => Promise.all([1, 2, 3, 4].map(() => timeout(who)));
  for (let round = 0; round < 2; round++) {
    expect(new Set(await ask(db))).toEqual(new Set([patient]));
    expect(new Set(await ask(request))).toEqual(new Set(["1500ms"]));
    expect([await request.transaction(timeout), await db.transaction(timeout), await db.exclusively("lock", () => timeout(db))]).toEqual([patient, patient, patient]);
  }
});
