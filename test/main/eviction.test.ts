import { Redis } from "ioredis";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { startOwnRedis, type OwnRedisOptions } from "../support/own-servers.ts";
import { useProcesses } from "../support/processes.ts";

const { start, startWeb } = useProcesses();
const THROWS_AWAY = /"level":"?(?:50|error)"?.*"policy":"allkeys-lru".*"redis throws keys away when it is full"/;

let ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.reverse()) await end();
  ends = [];
});

async function ownRedis(options: OwnRedisOptions = {}) {
  const server = await startOwnRedis(options);
  ends.push(server.close);
  return server;
}

async function tell(url: string, ...command: [string, ...string[]]): Promise<void> {
  const redis = new Redis(url);
  await redis.call(...command);
  await redis.quit();
}

test.each(["allkeys-lru", "volatile-ttl"])("neither web nor worker begins with a Redis whose policy is %s; both say why, and what to do", async (policy) => {
  const redis = await ownRedis({ policy });
  for (const name of ["web", "worker"] as const) {
    const program = start(name, { REDIS_URL: redis.url });
    expect(await program.exit).toBe(1);
    expect(program.output()).toMatch(new RegExp(`^Redis \\(REDIS_URL\\) has the maxmemory-policy ${policy}; it must be noeviction\\.`, "m"));
    expect(program.output()).toMatch(/notes of waiting uploads.*CONFIG SET maxmemory-policy noeviction.*Render.*ElastiCache/s);
    expect(program.output()).not.toMatch(/listening|settling/);
  }
});

test("a Redis that refuses when it is full raises no warning", async () => {
  const redis = await ownRedis({ policy: "noeviction" });
  const web = await startWeb({ REDIS_URL: redis.url });
  const { dependencies } = await (await fetch(`${web.url}/ready`)).json();
  expect(dependencies.redis).toMatchObject({ ok: true });
  expect(dependencies.redis).not.toHaveProperty("warning");
  expect(web.output()).not.toMatch(/when it is full/);
});

test("a Redis that was away at the start and evicts is logged once, and readiness warns until it is put right", async () => {
  const redis = await ownRedis({ policy: "allkeys-lru" });
  await redis.stop();
  const web = await startWeb({ REDIS_URL: redis.url });
  const worker = start("worker", { REDIS_URL: redis.url });
  await worker.says(/settling/);
  const ready = async () => (await (await fetch(`${web.url}/ready`)).json()).dependencies.redis;
  expect(await ready()).toMatchObject({ ok: false });

  await redis.start();
  await web.says(THROWS_AWAY);
  await worker.says(THROWS_AWAY);
  expect(await ready()).toMatchObject({ ok: true, warning: expect.stringContaining("allkeys-lru, not noeviction") });
  await redis.kill();
  await eventually(async () => (await ready()).ok, false);
  await redis.start();
  await eventually(async () => (await ready()).warning, expect.stringContaining("allkeys-lru"));
  expect(web.output().match(new RegExp(THROWS_AWAY, "g"))).toHaveLength(1);
  expect((await fetch(`${web.url}/api/upload/a.txt`, { method: "PUT", body: "a" })).status).toBe(202);

  await tell(redis.url, "CONFIG", "SET", "maxmemory-policy", "noeviction");
  expect(await ready()).not.toHaveProperty("warning");
  await web.says(/redis throws no keys away any more/);
  await tell(redis.url, "CONFIG", "SET", "maxmemory-policy", "volatile-lru");
  expect(await ready()).toMatchObject({ ok: true, warning: expect.stringContaining("volatile-lru") });
});

test("a Redis that does not tell its policy is taken as it is", async () => {
  const redis = await ownRedis({ policy: "allkeys-lru" });
  await tell(redis.url, "ACL", "SETUSER", "managed", "on", ">secret", "~*", "&*", "+@all", "-info");
  const web = await startWeb({ REDIS_URL: redis.url.replace("//", "//managed:secret@") });
  await web.says(/redis does not tell what it does when it is full/);
  expect((await (await fetch(`${web.url}/ready`)).json()).dependencies.redis).toMatchObject({ ok: true });
  expect(web.output().match(/does not tell/g)).toHaveLength(1);
});
