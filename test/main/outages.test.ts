import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openWorkload } from "../../src/main/workload.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

type Proxy = Awaited<ReturnType<typeof throughFaultProxy>>;

describe("without Redis", () => {
  let world: World;
  let redis: Proxy;
  beforeEach(async () => {
    redis = await throughFaultProxy(servers.redisUrl());
    world = await openWorld({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500", RECONCILE_SECONDS: "1" });
  });
  afterEach(async () => {
    redis.set({});
    await eventually(() => world.context.redis.status, "ready");
    await world.close();
    await redis.close();
  });

  test.each([["that is down", { down: true }], ["that does not answer", { blackhole: true }]])(
    "(one %s) uploads are accepted with a null stream id, and settled when it is back", async (_how, faults) => {
      const workload = await openWorkload(world.context);
      redis.set(faults);
      const response = await world.upload("kept safe");
      expect(response.status).toBe(202);
      const { stream_id, status_url } = await response.json();
      expect(stream_id).toBeNull();
      expect(await (await fetch(world.url + status_url)).json()).toMatchObject({ status: "accepted" });
      const counts = await (await fetch(`${world.url}/api/counts`)).json();
      expect(counts).toMatchObject({ redis: null, timescale: 0, degraded: ["redis"] });
      const ready = await fetch(`${world.url}/ready`);
      expect(ready.status).toBe(200);
      expect((await ready.json()).dependencies.redis.ok).toBe(false);
      expect((await fetch(`${world.url}/dashboard`)).status).toBe(200);

      redis.set({ down: true }); // what hangs in the blackhole would hang on
      redis.set({});
      await eventually(() => world.ledger(), 1, 20_000);
      await workload.stop();
    });
});

describe("without PostgreSQL", () => {
  let world: World;
  let postgres: Proxy;
  beforeEach(async () => {
    postgres = await throughFaultProxy(servers.pgUri());
    world = await openWorld({ RECONCILE_SECONDS: "1" }, { databaseHost: new URL(postgres.url).host });
  });
  afterEach(async () => {
    postgres.set({});
    await world.close();
    await postgres.close();
  });

  test("uploads are accepted and wait, lists say kindly that they cannot be had, and no attempt is spent", async () => {
    const workload = await openWorkload(world.context);
    const first = await (await world.upload("before")).json();
    await eventually(() => world.ledger(), 1);
    postgres.set({ down: true });
    const response = await world.upload("during");
    expect(response.status).toBe(202);
    const { status_url, file_id } = await response.json();
    expect(await (await fetch(world.url + status_url)).json()).toMatchObject({ status: expect.stringMatching(/accepted|settling/) });
    expect(await (await fetch(`${world.url}/api/files/${file_id}`)).text()).toBe("during");
    const list = await fetch(`${world.url}/api/files`);
    expect([list.status, list.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(await list.json()).toMatchObject({ code: "UNAVAILABLE", error: "PostgreSQL is not reachable right now. Try again in a moment." });
    expect((await fetch(world.url + first.status_url)).status).toBe(503);
    const dashboard = await fetch(`${world.url}/dashboard`);
    expect(dashboard.status).toBe(200);
    expect(await dashboard.text()).not.toMatch(/ECONN|at .*\.js/);

    postgres.set({});
    await eventually(() => world.ledger(), 2, 20_000);
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
    expect(await world.sql("select upload_id from dead_letters")).toEqual([]);
    await workload.stop();
  });
});

describe("with a PostgreSQL that does not answer", () => {
  test("uploads are accepted within seconds, also under an Idempotency-Key, and the counts say what is missing", async () => {
    const postgres = await throughFaultProxy(servers.pgUri());
    const world = await openWorld({}, { databaseHost: new URL(postgres.url).host });
    try {
      await world.upload("before");
      await world.settleAll();
      postgres.set({ blackhole: true });
      const startedAt = Date.now();
      expect((await world.upload("plain")).status).toBe(202);
      expect((await world.upload("under a key", { headers: { "Idempotency-Key": "k" } })).status).toBe(202);
      const counts = await (await fetch(`${world.url}/api/counts`)).json();
      expect(counts).toMatchObject({ redis: 2, timescale: null, degraded: ["postgres"] });
      expect(Date.now() - startedAt).toBeLessThan(8_000);
      postgres.set({ down: true });
      postgres.set({});
      await eventually(async () => {
        await world.settleAll();
        return world.ledger();
      }, 3);
    } finally {
      postgres.set({});
      await world.close();
      await postgres.close();
    }
  });
});

describe("without S3", () => {
  test("uploads go on and wait where the inbox is on disk; where the inbox is there, the door says 503 and when to come back", async () => {
    const s3 = await throughFaultProxy(servers.s3().endpoint);
    const onDisk = await openWorld({ STORAGE_MODE: "s3", S3_ENDPOINT: s3.url.replace(/\/$/, ""), S3_TIMEOUT_SECONDS: "1" });
    const inBucket = await openWorld({ STORAGE_MODE: "s3", INBOX: "s3", S3_ENDPOINT: s3.url.replace(/\/$/, ""), S3_TIMEOUT_SECONDS: "1" });
    try {
      s3.set({ down: true });
      expect((await onDisk.upload("waits")).status).toBe(202);
      await expect(onDisk.settle().then(() => onDisk.settle())).rejects.toThrow(/storage is unavailable/);
      expect(await onDisk.sql("select upload_id from settle_attempts")).toEqual([]);

      const refused = await inBucket.upload("cannot be kept");
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
      expect((await fetch(`${inBucket.url}/ready`)).status).toBe(503);

      s3.set({});
      await onDisk.settleAll();
      expect(await onDisk.ledger()).toBe(1);
      expect((await inBucket.upload("kept")).status).toBe(202);
    } finally {
      s3.set({});
      await onDisk.close();
      await inBucket.close();
      await s3.close();
    }
  });
});
