import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLog } from "../../src/core/log.ts";
import { append } from "../../src/stream/append.ts";
import { createConsumer, type Entry, type Handler } from "../../src/stream/consumer.ts";
import { openRedis, whenReady } from "../../src/stream/redis.ts";
import { eventually } from "../support/eventually.ts";
import { servers } from "../support/servers.ts";

const log = createLog("silent", "test");
let redis: Redis;
let blocking: Redis;
let stream: string;

beforeEach(async () => {
  stream = `t${randomBytes(6).toString("hex")}`;
  redis = openRedis({ url: servers.redisUrl(), commandTimeoutMs: 2_000, log });
  blocking = new Redis(servers.redisUrl(), { protocol: 2 });
  await whenReady(redis, 5_000);
});
afterEach(async () => {
  await redis.del(stream, `${stream}:in-hand`);
  await redis.quit();
  await blocking.quit();
});

function consumer(name: string, handle: Handler, { claimIdleMs = 10_000, retryMs = 0, batchSize = 10 } = {}) {
  return createConsumer({ redis, blocking, stream, group: "g", name, batchSize, claimIdleMs, retryMs, handle, log });
}

function recorder() {
  const seen: string[][] = [];
  return { seen, handle: async (entries: Entry[]) => { seen.push(entries.map(({ key }) => key)); return new Set<string>(); } };
}

const pendingCount = async () => (await redis.xpending(stream, "g"))[0];

/** Reads on until something comes: making a lost group takes a round of its own. */
async function runUntilWork(worker: { runOnce(blockMs: number): Promise<number> }): Promise<number> {
  for (;;) {
    const count = await worker.runOnce(20);
    if (count > 0) return count;
  }
}

test("entries come in batches, in order, and are gone once they are handled", async () => {
  for (let i = 0; i < 25; i++) await append(redis, stream, { key: `k${i}`, body: "{}" });
  const { seen, handle } = recorder();
  const worker = consumer("a", handle);
  expect([await runUntilWork(worker), await worker.runOnce(1), await worker.runOnce(1), await worker.runOnce(1)]).toEqual([10, 10, 5, 0]);
  expect(seen.flat()).toEqual(Array.from({ length: 25 }, (_, i) => `k${i}`));
  expect(await redis.xlen(stream)).toBe(0);
  expect(await pendingCount()).toBe(0);
  expect(await redis.exists(`${stream}:in-hand`)).toBe(0);
});

test("entries written before the first consumer came are not skipped", async () => {
  await append(redis, stream, { key: "early", body: "{}" });
  const { seen, handle } = recorder();
  await runUntilWork(consumer("late", handle));
  expect(seen).toEqual([["early"]]);
});

test("a blocked reader survives that the stream and its group vanish, and goes on from the beginning", async () => {
  const { seen, handle } = recorder();
  const worker = consumer("a", handle);
  await worker.runOnce(1); // makes the group
  const id = await blocking.client("ID");
  const blocked = worker.runOnce(10_000);
  await eventually(() => redis.client("LIST", "ID", id), expect.stringMatching(/ flags=\S*b\S* .* cmd=xreadgroup /));
  await redis.del(stream);
  expect(await blocked).toBe(0);
  await append(redis, stream, { key: "after", body: "{}" });
  await runUntilWork(worker);
  expect(seen).toEqual([["after"]]);
});

test("what a dead consumer left is taken over, and not before it has been idle long enough", async () => {
  await append(redis, stream, { key: "left", body: "{}" });
  await redis.xgroup("CREATE", stream, "g", "0");
  await redis.xreadgroup("GROUP", "g", "dead", "COUNT", 1, "STREAMS", stream, ">");
  const { seen, handle } = recorder();
  expect(await consumer("patient", handle, { claimIdleMs: 60_000 }).runOnce(1)).toBe(0);
  expect(await runUntilWork(consumer("prompt", handle, { claimIdleMs: 1 }))).toBe(1);
  expect(seen).toEqual([["left"]]);
  expect(await pendingCount()).toBe(0);
});

test("an entry that fails stays pending and comes again; the rest of its batch is acknowledged", async () => {
  for (const key of ["good", "bad", "fine"]) await append(redis, stream, { key, body: "{}" });
  const seen: string[][] = [];
  let failures = 0;
  const worker = consumer("a", async (entries) => {
    seen.push(entries.map(({ key }) => key));
    return new Set(entries.filter(({ key }) => key === "bad" && failures++ < 2).map(({ id }) => id));
  });
  await runUntilWork(worker);
  expect(await redis.xlen(stream)).toBe(1);
  await worker.runOnce(1);
  await worker.runOnce(1);
  expect(seen).toEqual([["good", "bad", "fine"], ["bad"], ["bad"]]);
  expect(await redis.xlen(stream)).toBe(0);
});

test("a batch whose handler throws stays pending whole and comes again to the same consumer at once", async () => {
  await append(redis, stream, { key: "a", body: "{}" });
  let calls = 0;
  const worker = consumer("a", async () => {
    if (calls++ === 0) throw new Error("not now");
    return new Set<string>();
  }, { claimIdleMs: 60_000 });
  await expect(runUntilWork(worker)).rejects.toThrow("not now");
  expect(await pendingCount()).toBe(1);
  expect(await worker.runOnce(1)).toBe(1);
  expect(await pendingCount()).toBe(0);
});

test("a batch that takes longer than the claim time is not taken over while its consumer lives", async () => {
  await append(redis, stream, { key: "slow", body: "{}" });
  const other = recorder();
  const thief = consumer("thief", other.handle, { claimIdleMs: 1_500 });
  const started = Date.now();
  const slow = consumer("slow", async () => {
    while (Date.now() - started < 4_000) await thief.runOnce(20);
    return new Set<string>();
  }, { claimIdleMs: 1_500 });
  await runUntilWork(slow);
  expect(other.seen).toEqual([]);
});

test("the loop ends with its signal, after the batch in hand", async () => {
  const stop = new AbortController();
  const seen: string[] = [];
  const worker = consumer("a", async (entries) => {
    stop.abort();
    seen.push(...entries.map(({ key }) => key));
    return new Set<string>();
  });
  await append(redis, stream, { key: "last", body: "{}" });
  await worker.run(stop.signal);
  expect(seen).toEqual(["last"]);
  expect(await redis.xlen(stream)).toBe(0);
  await worker.leave();
  expect(await redis.xinfo("CONSUMERS", stream, "g")).toEqual([]);
});

test("housekeeping before there is a stream finds nothing to do, and later keeps the names of the living", async () => {
  const worker = consumer("a", recorder().handle);
  await worker.forgetDeadConsumers();
  await append(redis, stream, { key: "k", body: "{}" });
  await runUntilWork(worker);
  await worker.forgetDeadConsumers();
  expect(await redis.xinfo("CONSUMERS", stream, "g")).toHaveLength(1);
});
