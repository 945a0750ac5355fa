import { existsSync, readFileSync } from "node:fs";
import { Redis } from "ioredis";
import pg from "pg";
import { afterEach, expect, test } from "vitest";
import { isPortFree } from "../../scripts/servers/ports.ts";
import { eventually } from "./eventually.ts";
import { startOwnPostgres, startOwnRedis, type OwnServer } from "./own-servers.ts";

let ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.reverse()) await end();
  ends = [];
});

/** The files of shared memory that a process has, where there is /proc to tell. */
function sharedMemoryOf(pid: number): string[] {
  if (process.platform !== "linux") return [];
  return [...new Set(readFileSync(`/proc/${pid}/maps`, "utf8").match(/\/dev\/shm\/\S+/g))];
}

async function redisSays<T>(url: string, ask: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { maxRetriesPerRequest: 0, commandTimeout: 500, retryStrategy: () => null });
  redis.on("error", () => {});
  return ask(redis).finally(() => redis.disconnect());
}

async function postgresSays(uri: string, text: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: uri, connectionTimeoutMillis: 500 });
  client.on("error", () => {});
  try {
    await client.connect();
    const answers = [await client.query({ text, rowMode: "array" })].flat(); // one for each statement
    return answers.at(-1)!.rows.flat();
  } finally {
    await client.end().catch(() => {});
  }
}

async function expectNothingLeft(server: OwnServer): Promise<void> {
  expect(existsSync(server.folder)).toBe(true);
  await server.close();
  expect([await isPortFree(server.port), existsSync(server.folder)]).toEqual([true, false]);
}

test("a Redis of one's own evicts as told, dies, comes back with or without its data, pauses, and leaves nothing", async () => {
  const redis = await startOwnRedis({ policy: "allkeys-lru", maxmemory: "20mb", durable: true });
  ends.push(redis.close);
  expect(await redisSays(redis.url, (client) => client.config("GET", "maxmemory*"))).toEqual(
    expect.arrayContaining(["maxmemory-policy", "allkeys-lru", "maxmemory", String(20 * 1024 ** 2)]));
  await redisSays(redis.url, (client) => client.set("a", "b"));

  redis.pause();
  await expect(redisSays(redis.url, (client) => client.get("a"))).rejects.toThrow();
  redis.resume();
  expect(await redisSays(redis.url, (client) => client.get("a"))).toBe("b");

  await redis.stop();
  await expect(redisSays(redis.url, (client) => client.get("a"))).rejects.toThrow();
  await redis.start();
  expect(await redisSays(redis.url, (client) => client.get("a"))).toBe("b");

  const forgetful = await startOwnRedis();
  ends.push(forgetful.close);
  await redisSays(forgetful.url, (client) => client.set("a", "b"));
  await forgetful.kill();
  await expect(redisSays(forgetful.url, (client) => client.get("a"))).rejects.toThrow();
  await forgetful.start();
  expect(await redisSays(forgetful.url, (client) => client.get("a"))).toBeNull();
  await forgetful.kill();
  await expectNothingLeft(forgetful);
  await expectNothingLeft(redis);
});

test("a PostgreSQL of one's own dies, comes back with all that was committed, pauses, and leaves nothing", async () => {
  const postgres = await startOwnPostgres();
  ends.push(postgres.close);
  await postgresSays(postgres.uri, "create table kept (n int); insert into kept values (1)");
  expect(await postgresSays(postgres.uri, "show fsync")).toEqual(["on"]);

  const waiting = postgresSays(postgres.uri, "begin; insert into kept values (2); select pg_sleep(60)").catch((error: Error) => error.message);
  await eventually(() => postgresSays(postgres.uri, "select count(*)::int from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()"), [1]);
  await postgres.kill();
  expect(await waiting).toMatch(/terminated|reset/);
  await expect(postgresSays(postgres.uri, "select 1")).rejects.toThrow();
  await postgres.start();
  expect(await postgresSays(postgres.uri, "select n from kept")).toEqual([1]);

  postgres.pause();
  await expect(postgresSays(postgres.uri, "select 1")).rejects.toThrow();
  postgres.resume();
  expect(await postgresSays(postgres.uri, "select n from kept")).toEqual([1]);

  const shared = sharedMemoryOf(postgres.pid()!);
  if (process.platform === "linux") expect(shared.length).toBeGreaterThan(0);
  await postgres.kill();
  await expectNothingLeft(postgres);
  expect(shared.filter((file) => existsSync(file))).toEqual([]);
});
