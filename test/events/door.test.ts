import { once } from "node:events";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const EVENT = { site_id: "s", event_type: "pageview" };

describe("POST /event", () => {
  let world: World;
  beforeAll(async () => { world = await openWorld(); });
  afterAll(() => world.close());

  const post = (body: string | Uint8Array, headers: Record<string, string> = {}) => fetch(`${world.url}/event`, { method: "POST", body: body as string, headers });

  test.each(["application/json", "application/json; charset=utf-8", "text/plain;charset=UTF-8", "application/vnd.x+json"])("%s is taken", async (type) => {
    const answer = await post(JSON.stringify(EVENT), { "content-type": type });
    expect([answer.status, await answer.text()]).toEqual([202, '{"status":"accepted"}']);
  });

  test("a body that is no event is refused with a reason, a code and the request's id", async () => {
    const answer = await world.send({ event_type: "x" });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toEqual({ error: "site_id required", code: "INVALID_EVENT", request_id: answer.headers.get("x-request-id") });
  });

  test.each([
    ["no JSON", "{", 400, "MALFORMED_REQUEST"],
    ["nothing", "", 400, "MALFORMED_REQUEST"],
    ["bytes that are no UTF-8", new Uint8Array([0x22, 0xff, 0x22]), 400, "MALFORMED_REQUEST"],
    ["a scalar", "7", 400, "INVALID_EVENT"],
    ["a number beyond all numbers for a name", '{"site_id": 1e999, "event_type": "x"}', 400, "INVALID_EVENT"],
    ["a lone surrogate", String.raw`{"site_id": "\ud800", "event_type": "x"}`, 400, "INVALID_EVENT"],
    ["NUL", String.raw`{"site_id": "a\u0000", "event_type": "x"}`, 400, "INVALID_EVENT"],
    ["a depth of 20,000 lists", `{"site_id": ${"[".repeat(20_000)}${"]".repeat(20_000)}, "event_type": "x"}`, 400, "INVALID_EVENT"],
    ["more than 64 KiB", JSON.stringify({ ...EVENT, more: "x".repeat(70_000) }), 413, "EVENTS_TOO_LARGE"],
  ])("%s is refused", async (_what, body, status, code) => {
    const answer = await post(body, { "content-type": "application/json" });
    expect([answer.status, (await answer.json()).code]).toEqual([status, code]);
  });

  test("a body whose length nobody said is refused as soon as it is too long, and one that breaks off is no event", async () => {
    const stream = new ReadableStream({ pull: (controller) => controller.enqueue(new TextEncoder().encode("x".repeat(16_384))) }); // without end
    const answer = await fetch(`${world.url}/event`, { method: "POST", body: stream, duplex: "half", headers: { "content-type": "application/json" } } as RequestInit);
    expect([answer.status, (await answer.json()).code]).toEqual([413, "EVENTS_TOO_LARGE"]);
    const { port } = new URL(world.url);
    const socket = connect(Number(port), "127.0.0.1");
    socket.end(`POST /event HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n${JSON.stringify({ ...EVENT, site_id: "broken-off" })}`);
    await once(socket.resume(), "close");
    await world.recordAll();
    expect((await world.stats({ site_id: "broken-off" })).total_views).toBe(0);
  });

  test("a form, which curl -d sends of itself, is told what to do", async () => {
    const answer = await post(JSON.stringify(EVENT), { "content-type": "application/x-www-form-urlencoded" });
    const { code, error } = await answer.json();
    expect([answer.status, code]).toEqual([415, "UNSUPPORTED_MEDIA_TYPE"]);
    expect(error).toContain("-H 'Content-Type: application/json'");
    const packed = await post("x", { "content-type": "application/json", "content-encoding": "gzip" });
    expect([packed.status, (await packed.json()).code]).toEqual([415, "UNSUPPORTED_MEDIA_TYPE"]);
  });

  test("what was refused is in no figure and nowhere on its way", async () => {
    const before = await world.redis.xlen(world.context.eventsStream);
    await world.send({ event_type: "x" });
    await world.send([{}, { site_id: "" }]);
    expect(await world.redis.xlen(world.context.eventsStream)).toBe(before);
  });

  test("other methods are refused with those there are", async () => {
    for (const path of ["/event", "/events"]) {
      const answer = await fetch(`${world.url}${path}`);
      expect([answer.status, answer.headers.get("allow")]).toEqual([405, "POST, OPTIONS"]);
    }
  });

  test("a visitor of the day is one user for a site, another one for another site, and names nobody", async () => {
    for (const [site, browser] of [["v1", "A"], ["v1", "A"], ["v1", "B"], ["v2", "A"]]) {
      await world.send({ site_id: site, event_type: "pageview", visitor: "daily" }, { "user-agent": browser! });
    }
    await world.send({ site_id: "v1", event_type: "pageview", visitor: "daily", user_id: "named" });
    await world.recordAll();
    const rows = await world.sql<{ site_id: string; user_id: string }>("select site_id, user_id from events where site_id like 'v_' order by id");
    const ids = rows.map(({ user_id }) => user_id);
    expect([ids[0] === ids[1], ids[0] === ids[2], ids[0] === ids[3], ids[4]]).toEqual([true, false, false, "named"]);
    expect(ids[0]).toMatch(/^~[\w-]{22}$/);
    expect((await world.stats({ site_id: "v1" })).unique_users).toBe(3);
  });
});

describe("events of pages of other origins", () => {
  const ask = (world: World, method: string, origin: string) => fetch(`${world.url}/event`, {
    method, headers: { origin, "content-type": "application/json" }, ...(method === "POST" && { body: JSON.stringify(EVENT) }),
  });

  test("are taken from everywhere unless origins are named", async () => {
    const world = await openWorld();
    const preflight = await ask(world, "OPTIONS", "https://a.example");
    expect([preflight.status, preflight.headers.get("access-control-allow-origin"), preflight.headers.get("access-control-allow-headers"), preflight.headers.get("access-control-allow-methods")])
      .toEqual([204, "*", "Content-Type", "POST"]);
    const answer = await ask(world, "POST", "https://a.example");
    expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([202, "*"]);
    const refused = await fetch(`${world.url}/event`, { method: "POST", headers: { origin: "https://a.example", "content-type": "application/json" }, body: "{}" });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([400, "*"]); // or the page could not read why
    await world.close();
  });

  test("are taken from those that are named, from our own pages, and from programs", async () => {
    const world = await openWorld({ EVENT_ORIGINS: "https://a.example, https://b.example:8443" });
    for (const origin of ["https://a.example", "https://b.example:8443", world.url]) {
      const answer = await ask(world, "POST", origin);
      expect([answer.status, answer.headers.get("vary")]).toEqual([202, "Origin"]);
      expect(answer.headers.get("access-control-allow-origin")).toBe(origin === world.url ? null : origin);
    }
    expect((await world.send(EVENT)).status).toBe(202);
    for (const origin of ["https://c.example", "http://a.example", "null"]) {
      for (const method of ["POST", "OPTIONS"]) {
        const answer = await ask(world, method, origin);
        expect([answer.status, (await answer.json()).code, answer.headers.get("access-control-allow-origin")]).toEqual([403, "ORIGIN_NOT_ALLOWED", null]);
      }
    }
    await world.close();
  });
});

const intakeOf = async (world: World) => (await fetch(`${world.url}/stats/intake`)).json();

test("what is refused for want of room counts for nobody's quota, and is shown to whoever runs this", async () => {
  const world = await openWorld({ ADDRESS_EVENTS_PER_MINUTE: "10", REDIS_URL: "redis://127.0.0.1:1", REDIS_TIMEOUT_MS: "200", MAX_EVENT_SPOOL_BYTES: "0" });
  for (let i = 1; i <= 3; i++) {
    const answer = await world.send(Array(10).fill(EVENT));
    expect([answer.status, (await answer.json()).code]).toEqual([503, "EVENTS_BACKLOG_FULL"]);
    expect(answer.headers.get("ratelimit")).toMatch(/^"events";r=10;/);
    expect(await intakeOf(world)).toMatchObject({ accepted: 0, refused_requests: i, over_quota_requests: 0, last_refusals: { requests: i, last_code: "EVENTS_BACKLOG_FULL" } });
  }
  const page = async () => (await fetch(`${world.url}/analytics?site_id=s`, { headers: { accept: "text/html" } })).text();
  expect(await page()).toMatch(/Refused since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: 3 requests with events, the last one \d+(\.\d)? s ago \(EVENTS_BACKLOG_FULL\)/);
  const atMs = Date.now();
  world.setClock(new Date(atMs + 3_700_000));
  expect(await page()).not.toContain("Refused since");
  await world.send(EVENT);
  expect(await intakeOf(world)).toMatchObject({ refused_requests: 4, last_refusals: { requests: 1 } }); // another spell
  await world.close();
});

test("who is over the quota is counted apart, and no alarm for others", async () => {
  const world = await openWorld({ ADDRESS_EVENTS_PER_MINUTE: "1" });
  expect([(await world.send(EVENT)).status, (await world.send(EVENT)).status, (await world.send({})).status]).toEqual([202, 429, 429]);
  expect(await intakeOf(world)).toMatchObject({ accepted: 1, refused_requests: 0, over_quota_requests: 2, last_refusals: null });
  await world.close();
});

test("one address sends at most so many events a minute, a batch counting as its events, and is told when to go on", async () => {
  const world = await openWorld({ ADDRESS_EVENTS_PER_MINUTE: "20" });
  for (let i = 0; i < 3; i++) expect((await world.send(EVENT)).status).toBe(202);
  expect((await world.send([EVENT, EVENT])).headers.get("ratelimit")).toMatch(/^"events";r=15;t=\d+$/);
  expect((await world.send([{}, {}])).status).toBe(400); // what is no event counts for nobody
  expect((await world.send(Array(30).fill(EVENT))).status).toBe(202);
  for (const events of [EVENT, [EVENT], "no JSON"]) {
    const answer = await world.send(events);
    expect([answer.status, (await answer.json()).code, answer.headers.get("ratelimit-policy")]).toEqual([429, "TOO_MANY_REQUESTS", '"events";q=20;w=60']);
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
  }
  await world.recordAll();
  expect((await world.stats({ site_id: "s" })).total_views).toBe(35);
  await world.close();
});
