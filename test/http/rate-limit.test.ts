import type { Response } from "express";
import { afterEach, describe, expect, test } from "vitest";
import { Unavailable, type Failure } from "../../src/core/errors.ts";
import { createLog } from "../../src/core/log.ts";
import { networkOf } from "../../src/http/client-address.ts";
import { createRateLimits, type SharedCounters } from "../../src/http/rate-limit.ts";
import { openSite, type Site } from "../../src/main/site.ts";
import { createCounters } from "../../src/stream/counters.ts";
import { closeRedis, openRedis, whenReady } from "../../src/stream/redis.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";
import { ask, expectRefusal } from "./raw.ts";

const MINUTE_MS = 60_000;
const START = 1_000 * MINUTE_MS;

/** A limiter whose clock stands still. */
function limiter({ quotas = { address: 10 }, counters = memory(), at = START }: { quotas?: Record<string, number>; counters?: SharedCounters; at?: number } = {}) {
  let now = at;
  const rates = createRateLimits({ quotas, counters, now: () => now });
  const headers: Record<string, unknown> = {};
  const res = { setHeader: (name: string, value: unknown) => void (headers[name] = value) } as unknown as Response;
  function once(address = "a", account = "public"): number | true {
    try {
      return rates.limited(res, { address, account }, () => true);
    } catch (error) {
      expect((error as Failure).code).toBe("TOO_MANY_UPLOADS");
      return (error as Failure).retryAfterSeconds!;
    }
  }
  /** @returns how many of so many are let through */
  const times = (count: number, address?: string) => Array.from({ length: count }, () => once(address)).filter((result) => result === true).length;
  return { rates, headers, once, times, sleep: (ms: number) => void (now += ms) };
}

function memory(): SharedCounters & { total(key: string): number } {
  const hashes = new Map<string, Map<string, number>>();
  const total = (key: string) => [...(hashes.get(key)?.values() ?? [])].reduce((sum, counted) => sum + counted, 0);
  return {
    total,
    async exchange(changes) {
      return changes.map(({ key, by, counted }) => {
        if (counted !== undefined) hashes.set(key, (hashes.get(key) ?? new Map()).set(by, counted));
        return total(key);
      });
    },
  };
}

const away: SharedCounters = { exchange: () => Promise.reject(new Unavailable("redis")) };

describe("a limit", () => {
  test("lets through as many a minute as it says, and tells how many are left and when to come again", () => {
    const { times, once, headers, sleep } = limiter();
    sleep(20_000);
    expect(once()).toBe(true);
    expect(headers).toEqual({ "RateLimit-Policy": '"address";q=10;w=60', RateLimit: '"address";r=9;t=40' });
    expect(times(20)).toBe(9);
    const retryAfter = once() as number;
    expect(retryAfter).toBe(46); // at 66 s a tenth of the last minute's ten is over
    expect(headers["RateLimit"]).toBe('"address";r=0;t=46');
    sleep(retryAfter * 1_000);
    expect([once(), once()]).toEqual([true, 6]);
  });

  test("does not let through twice as many around a window's edge", () => {
    const { times, sleep } = limiter();
    sleep(MINUTE_MS - 1);
    expect(times(20)).toBe(10);
    sleep(2);
    expect(times(20)).toBe(0);
    sleep(MINUTE_MS / 2);
    expect(times(20)).toBe(5);
    sleep(2 * MINUTE_MS);
    expect(times(20)).toBe(10);
  });

  test("counts each address by itself, and what was refused or failed for nobody", () => {
    const { rates, times, once } = limiter();
    expect(times(100, "a")).toBe(10);
    expect(times(100, "b")).toBe(10);
    expect(once("a")).toBeLessThanOrEqual(66);
    for (let i = 0; i < 20; i++) {
      expect(() => rates.limited({ setHeader() {} } as unknown as Response, { address: "c" }, () => { throw new Error("too busy"); })).toThrow("too busy");
    }
    expect(times(100, "c")).toBe(10);
  });

  test("may be two, of which the tighter one decides and both are told", () => {
    const { times, headers, once } = limiter({ quotas: { address: 4, account: 6 } });
    expect([times(10, "a"), times(10, "b")]).toEqual([4, 2]);
    once("c");
    expect(headers["RateLimit-Policy"]).toBe('"address";q=4;w=60, "account";q=6;w=60');
    expect(headers["RateLimit"]).toMatch(/^"address";r=3;t=60, "account";r=0;t=\d+$/);
  });

  test("is none where it is 0, and says nothing", () => {
    const { times, headers } = limiter({ quotas: { address: 0 } });
    expect([times(1_000), headers]).toEqual([1_000, {}]);
  });

  test("is one for several processes, within a moment, also over a window's edge", async () => {
    const counters = memory();
    const [one, other] = [limiter({ counters }), limiter({ counters })];
    expect([one.times(6), other.times(2)]).toEqual([6, 2]);
    await eventually(() => counters.total("rate:address:a:1000"), 8);
    expect(one.times(1)).toBe(1); // and learns of the other's two
    await eventually(() => one.headers["RateLimit"] && one.once() !== true, true);
    const later = limiter({ counters, at: START + MINUTE_MS });
    expect(later.times(1)).toBe(1); // a new process does not know yet
    await eventually(() => later.once() !== true, true);
  });

  test("goes on from what was counted where a subject was forgotten here among many", async () => {
    const counters = memory();
    const { times } = limiter({ counters });
    expect(times(5, "a")).toBe(5);
    await eventually(() => counters.total("rate:address:a:1000"), 5);
    for (let i = 0; i < 50_001; i++) times(1, `other ${i}`);
    expect(times(1, "a")).toBe(1);
    await eventually(() => counters.total("rate:address:a:1000"), 6);
    expect(times(10, "a")).toBe(4);
  });

  test("gives back what came to nothing later, to all processes, though they were told already", async () => {
    const counters = memory();
    const [one, other] = [limiter({ counters }), limiter({ counters })];
    let fail!: (error: Error) => void;
    const work = one.rates.limited({ setHeader() {} } as unknown as Response, { address: "a" }, () => new Promise((_, reject) => (fail = reject)), 10);
    await eventually(() => counters.total("rate:address:a:1000"), 10);
    expect(one.times(1)).toBe(0);
    const error = new Error("no room");
    fail(error);
    await expect(work).rejects.toBe(error);
    await eventually(() => counters.total("rate:address:a:1000"), 0);
    expect([other.times(3), one.times(7)]).toEqual([3, 7]);
    await eventually(() => counters.total("rate:address:a:1000"), 10);
  });

  test("holds without Redis, for each process by itself", async () => {
    const { times, sleep } = limiter({ counters: away });
    expect(times(20)).toBe(10);
    await new Promise((resolve) => setTimeout(resolve, 450)); // two exchanges that fail
    expect(times(20)).toBe(0);
    sleep(2 * MINUTE_MS);
    expect(times(20)).toBe(10);
  });
});

test.each([
  ["203.0.113.7", "203.0.113.7"],
  ["203.0.113.7:51034", "203.0.113.7"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:DB8:0001:2:ffff::1", "2001:db8:1:2::/64"],
  ["[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["1::2:3:4:5:6:7", "1:0:2:3::/64"],
  ["unknown", "unknown"],
  ["x".repeat(9_000), "x".repeat(64)],
])("the address %s counts as %s", (ip, network) => {
  expect(networkOf(ip)).toBe(network);
});

describe("the door", () => {
  let world: World;
  let others: Site[] = [];
  afterEach(async () => {
    await Promise.all(others.map((site) => site.stop()));
    others = [];
    await world.close();
  });
  const put = (headers: Record<string, string> = {}, url = world.url) => fetch(`${url}/api/upload/a.txt`, { method: "PUT", body: "a", headers });

  test("refuses more uploads than ADDRESS_UPLOADS_PER_MINUTE before their bodies, at all its ways in, and lets other addresses in", async () => {
    world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "3" });
    for (let left = 2; left >= 0; left--) {
      const accepted = await put();
      expect([accepted.status, accepted.headers.get("ratelimit-policy")]).toEqual([202, '"address";q=3;w=60']);
      expect(accepted.headers.get("ratelimit")).toMatch(new RegExp(`^"address";r=${left};t=\\d+$`));
    }
    const form = "Content-Type: multipart/form-data; boundary=b";
    for (const head of ["PUT /api/upload/a.txt HTTP/1.1\r\n", `POST /api/upload HTTP/1.1\r\n${form}\r\n`, `POST /upload HTTP/1.1\r\nAccept: application/json\r\n${form}\r\n`]) {
      const refused = await ask(world.url, `${head}Host: x\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n`);
      expectRefusal(refused, "TOO_MANY_UPLOADS");
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
      expect(refused.headers["ratelimit"]).toMatch(/^"address";r=0;t=\d+$/);
    }
    expect((await fetch(`${world.url}/api/counts`)).headers.get("ratelimit")).toBeNull();
    const other = await ask(world.url, "PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", "PUT", { from: "127.0.0.2" });
    expect(other.status).toBe(202);
    expect(world.site.underWay().uploads).toBe(0);
  });

  test("is not moved by a forged X-Forwarded-For", async () => {
    world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "2" });
    const statuses = [];
    for (let i = 0; i < 4; i++) statuses.push((await put({ "X-Forwarded-For": `10.0.0.${i}` })).status);
    expect(statuses).toEqual([202, 202, 429, 429]);
  });

  test("believes the one proxy that TRUST_PROXY=1 counts, and nothing that came before it", async () => {
    world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "2", TRUST_PROXY: "1" });
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await put({ "X-Forwarded-For": `10.0.0.${i}, 10.9.9.9` })).status);
    expect(statuses).toEqual([202, 202, 429]);
    expect((await put({ "X-Forwarded-For": "10.9.9.9, 10.0.0.1" })).status).toBe(202);
  });

  test("counts for the account, from wherever it comes", async () => {
    world = await openWorld({ ACCOUNT_UPLOADS_PER_MINUTE: "2", TRUST_PROXY: "1" });
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await put({ "X-Forwarded-For": `10.0.0.${i}` })).status);
    expect(statuses).toEqual([202, 202, 429]);
  });

  test("shares its limits with other web processes through Redis, in keys of its own that expire", async () => {
    world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "20" });
    const other = await openSite(world.context);
    others.push(other);
    for (let i = 0; i < 15; i++) await put();
    const keys = () => world.redis.keys("*rate:address:*").then((found) => found.filter((key) => key.startsWith(world.id)));
    await eventually(async () => (await Promise.all((await keys()).map((key) => world.redis.hvals(key)))).flat().reduce((sum, count) => sum + Number(count), 0), 15);
    for (const key of await keys()) expect(await world.redis.ttl(key)).toBeGreaterThan(60);
    let accepted = 0;
    await eventually(async () => {
      const { status } = await put({}, other.url());
      if (status === 202) accepted++;
      return status;
    }, 429);
    expect(accepted).toBeLessThan(20); // the first of them, until it had learnt of the other's fifteen
  });

  test("waits for no Redis", async () => {
    const log = createLog("silent", "test");
    const redis = openRedis({ url: "redis://127.0.0.1:1", commandTimeoutMs: 100, log });
    world = await openWorld();
    const { times } = limiter({ counters: createCounters(redis, "x:") });
    expect(times(20)).toBe(10);
    await new Promise((resolve) => setTimeout(resolve, 450)); // the exchanges that fail
    expect(times(20)).toBe(0);
    await closeRedis(redis);
  });

  test("counts once what a slow Redis was told again and again, and what came while it was slow", async () => {
    const log = createLog("silent", "test");
    world = await openWorld();
    const proxy = await throughFaultProxy(servers.redisUrl());
    const redis = openRedis({ url: proxy.url, commandTimeoutMs: 100, log });
    await whenReady(redis, 5_000);
    const counters = createCounters(redis, `${world.id}:`);
    let [failed, done] = [0, 0];
    const exchange: SharedCounters["exchange"] = (...given) => counters.exchange(...given).then((totals) => (done++, totals), (error) => {
      failed++;
      throw error;
    });
    const { rates, times, once, headers } = limiter({ quotas: { address: 100 }, counters: { exchange } });
    try {
      proxy.set({ latencyMs: 60 }); // there and back takes longer than a command may, and less than a connection may be silent
      expect(times(5)).toBe(5);
      await eventually(() => failed >= 3, true);
      expect(times(5)).toBe(5);
      await eventually(() => failed >= 5, true);
      proxy.set({});
      await eventually(() => done >= 1, true);
      expect([once(), headers["RateLimit"]]).toEqual([true, '"address";r=89;t=60']);
    } finally {
      rates.stop();
      await closeRedis(redis);
      await proxy.close();
    }
  });

  test("tells a person at the page what to do", async () => {
    world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "1", MAX_CONCURRENT_UPLOADS: "1" });
    await put();
    const form = new FormData();
    form.set("file", new Blob(["a"]), "a.txt");
    const answer = await fetch(`${world.url}/upload`, { method: "POST", body: form, headers: { Accept: "text/html" } });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([429, "text/html; charset=utf-8"]);
    expect(await answer.text()).toContain("minute");
  });
});
