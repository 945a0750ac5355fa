import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLog } from "../../src/core/log.ts";
import { openDb, type Database } from "../../src/db/pool.ts";
import { eventually } from "../support/eventually.ts";
import { createDatabase } from "../support/places.ts";
import { openTransactionPooler } from "../support/transaction-pooler.ts";

const log = createLog("silent", "test");
const LOCK = "the lock";

let database: Awaited<ReturnType<typeof createDatabase>>;
let onlooker: Database;
beforeEach(async () => {
  database = await createDatabase(`lock_${randomBytes(6).toString("hex")}`);
  onlooker = openDb({ uri: database.uri, poolSize: 2, name: "onlooker", log });
});
afterEach(async () => {
  await onlooker.close();
  await database.drop();
});

const holders = async () => (await onlooker.query<{ pid: number }>(
  "select pid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())")).rows;

describe.each(["directly", "through a pooler that gives each transaction another connection"])("connected %s", (how) => {
  let pooler: Awaited<ReturnType<typeof openTransactionPooler>> | undefined;
  let one: Database, other: Database;
  beforeEach(async () => {
    pooler = how === "directly" ? undefined : await openTransactionPooler(database.uri);
    const uri = pooler?.uri ?? database.uri;
    one = openDb({ uri, poolSize: 2, name: "one", log });
    other = openDb({ uri, poolSize: 2, name: "other", log });
  });
  afterEach(async () => {
    await one.close();
    await other.close();
    await pooler?.close();
  });

  test("a lock is one process's as long as the work takes, and then the next one's", async () => {
    for (let round = 0; round < 4; round++) {
      const [mine, next] = round % 2 ? [one, other] : [other, one];
      const during = await mine.exclusively(LOCK, async () => {
        await Promise.all([mine.query("select 1"), next.query("select 1")]);
        return [await next.exclusively(LOCK, async () => "both"), await next.exclusively("another lock", async () => "another")];
      });
      expect(during).toEqual([undefined, "another"]);
      await eventually(holders, []);
    }
  });

  test("work that fails leaves no lock", async () => {
    for (let round = 0; round < 4; round++) {
      await expect(one.exclusively(LOCK, async () => { throw new Error("failed"); })).rejects.toThrow("failed");
      await one.query("select 1");
    }
    expect(await holders()).toEqual([]);
  });

  test("what a request has set for itself limits nobody else", async () => {
    const timeout = async (target: Pick<Database, "query">) => (await target.query<{ statement_timeout: string }>("show statement_timeout")).rows[0]!.statement_timeout;
    await Promise.all([1, 2].map(() => one.query("select pg_sleep(0.05)"))); // both connections: to connect takes a time of its own
    await Promise.all([1, 2, 3, 4].map(() => one.within(500).query("select 1")));
    await one.within(500).transaction(async (tx) => void (await tx.query("select 1")));
    const seen = await Promise.all([1, 2, 3, 4].map(() => timeout(other)));
    expect(new Set(seen)).toEqual(new Set([how === "directly" ? "30s" : "0"]));
  });
});

test("a lock is held by a transaction that nothing ends for its age, and that does not keep vacuum from its work", async () => {
  const db = openDb({ uri: `${database.uri}?options=-c%20default_transaction_isolation=serializable`, poolSize: 1, name: "holder", log });
  const [held] = await db.exclusively(LOCK, async () => (await onlooker.query(
    "select state, backend_xid, backend_xmin, (select count(*) from pg_locks l where l.pid = a.pid and l.locktype = 'relation') as relations from pg_stat_activity a where application_name = 'holder'")).rows) ?? [];
  expect(held).toEqual({ state: "idle in transaction", backend_xid: null, backend_xmin: null, relations: 0 });
  await db.close();
});

test("a lock outlasts the time after which PostgreSQL ends other transactions that stand still", async () => {
  const uri = `${database.uri}?idle_in_transaction_session_timeout=300&options=-c%20transaction_timeout=300`;
  const db = openDb({ uri, poolSize: 1, name: "holder", log });
  const held = await db.exclusively(LOCK, async () => {
    await onlooker.query("select pg_sleep(0.8)");
    return holders();
  });
  expect(held).toHaveLength(1);
  await db.close();
});

test("a lock whose connection is cut goes with it: the work is not stopped, and another process may begin", async () => {
  const one = openDb({ uri: database.uri, poolSize: 1, name: "one", log });
  const during = await one.exclusively(LOCK, async () => {
    await onlooker.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'one'");
    await eventually(holders, []);
    return onlooker.exclusively(LOCK, async () => "the other's");
  });
  expect(during).toBe("the other's");
  expect(await one.exclusively(LOCK, async () => "again")).toBe("again");
  await one.close();
});
