import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const event = (path: string) => ({ site_id: "b", event_type: "pageview", path });

describe("POST /events", () => {
  let world: World;
  beforeAll(async () => { world = await openWorld(); });
  afterAll(() => world.close());

  const post = async (body: string, type = "application/json") => {
    const answer = await fetch(`${world.url}/events`, { method: "POST", body, headers: { "content-type": type } });
    return { status: answer.status, body: await answer.json() };
  };
  const pathsOf = async (like: string) => {
    await world.recordAll();
    return (await world.sql<{ path: string }>("select path from events where path like $1 order by id", [like])).map(({ path }) => path);
  };

  test("of an array, the good ones are kept and the others are named, each with its reason", async () => {
    const { status, body } = await post(JSON.stringify([event("/a1"), { site_id: "b" }, event("/a2"), 7, { ...event("/a3"), timestamp: "now" }]));
    expect([status, body]).toEqual([202, { status: "accepted", accepted: 2, refused: [
      { index: 1, reason: "event_type required" }, { index: 3, reason: "an event is a JSON object" },
      { index: 4, reason: "timestamp must be ISO 8601 with an offset, such as 2026-01-15T10:30:00Z" },
    ] }]);
    expect(await pathsOf("/a%")).toEqual(["/a1", "/a2"]);
  });

  test.each(["application/x-ndjson", "application/json", "text/plain"])("of lines (%s), a broken one takes no other with it; empty lines do not count", async (type) => {
    const name = type.replace(/\W/g, "-");
    const { status, body } = await post(`${JSON.stringify(event(`/n1-${name}`))}\n\n{"site_id":\r\n${JSON.stringify(event(`/n2-${name}`))}\r\n`, type);
    expect([status, body]).toEqual([202, { status: "accepted", accepted: 2, refused: [{ index: 1, reason: "the line is not JSON" }] }]);
    expect(await pathsOf(`/n_-${name}`)).toEqual([`/n1-${name}`, `/n2-${name}`]);
  });

  test.each([[JSON.stringify([event("/mark")])], [`${JSON.stringify(event("/mark"))}\n${JSON.stringify(event("/mark"))}`]])("a byte order mark in front of it changes nothing: %s", async (body) => {
    expect((await post(`\ufeff${body}`)).body).toMatchObject({ status: "accepted", refused: [] });
  });

  test("an event among others is no larger than one alone may be", async () => {
    const { body } = await post(JSON.stringify([event("/fits"), { ...event("/large"), more: "x".repeat(70_000) }, { ...event("/strings"), more: '\\"],[{\\' }]));
    expect(body).toEqual({ status: "accepted", accepted: 2, refused: [{ index: 1, reason: "the event is larger than 64 KiB" }] });
    expect(await pathsOf("/strings")).toEqual(["/strings"]);
  });

  test("a body whose length is not said has a megabyte, and leaves room for another one", async () => {
    const chunked = (kib: number) => {
      let left = kib;
      const stream = new ReadableStream({ pull: (controller) => (left-- > 0 ? controller.enqueue(new TextEncoder().encode(`${" ".repeat(1023)}\n`)) : controller.close()) });
      return fetch(`${world.url}/events`, { method: "POST", body: stream, duplex: "half", headers: { "content-type": "application/json" } } as RequestInit);
    };
    const arrived = once(world.site.server, "request");
    const hanging = connect(Number(new URL(world.url).port), "127.0.0.1");
    hanging.write("POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n");
    await arrived;
    await eventually(async () => (await Promise.all([1, 2, 3].map(() => chunked(1)))).map(({ status }) => status), [400, 400, 400]); // no event in it
    const tooLarge = await chunked(1_025);
    expect([tooLarge.status, (await tooLarge.json()).code]).toEqual([413, "EVENTS_TOO_LARGE"]);
    hanging.destroy();
  });

  test("a single event is a batch of one line", async () => {
    expect(await post(JSON.stringify(event("/one")))).toEqual({ status: 202, body: { status: "accepted", accepted: 1, refused: [] } });
  });

  test("where none is valid it is a bad request that names them all", async () => {
    const { status, body } = await post("[{}, {}]");
    expect([status, body]).toEqual([400, {
      error: "None of the events is valid.", code: "INVALID_EVENT", request_id: expect.any(String), accepted: 0,
      refused: [{ index: 0, reason: "site_id required" }, { index: 1, reason: "site_id required" }],
    }]);
  });

  test.each([
    ["[", 400, "MALFORMED_REQUEST"], ["[1", 400, "MALFORMED_REQUEST"], ['["', 400, "MALFORMED_REQUEST"], ["[{}] x", 400, "MALFORMED_REQUEST"], ["[{}}]", 400, "MALFORMED_REQUEST"], ["[{]}", 400, "MALFORMED_REQUEST"], ["[,{}]", 400, "MALFORMED_REQUEST"], ["[1,]", 400, "MALFORMED_REQUEST"], ["[]", 400, "INVALID_EVENT"], ["  \n ", 400, "INVALID_EVENT"], ["", 400, "INVALID_EVENT"],
    [`[${"{},".repeat(10_000)}{}]`, 413, "TOO_MANY_EVENTS"], ["{}\n".repeat(10_001), 413, "TOO_MANY_EVENTS"],
    [`[${" ".repeat(10 * 1024 * 1024)}]`, 413, "EVENTS_TOO_LARGE"],
  ])("%.20s… is refused as a whole", async (body, status, code) => {
    const answer = await post(body);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });

  test("a body whose length is not said may have a mebibyte, and the answer says what to do", async () => {
    const streamed = (bytes: number) => new Promise<{ status: number; error: string }>((resolve, reject) => {
      const sent = request(`${world.url}/events`, { method: "POST", headers: { "Transfer-Encoding": "chunked" } }, (response) => {
        let answer = "";
        response.on("data", (chunk) => (answer += chunk)).on("end", () => resolve({ status: response.statusCode!, error: JSON.parse(answer).error }));
      }).on("error", reject);
      const line = `${JSON.stringify({ site_id: "streamed", event_type: "x" })}\n`;
      sent.end(line + " ".repeat(bytes - line.length));
    });
    expect(await streamed(1024 * 1024)).toMatchObject({ status: 202 });
    expect(await streamed(1024 * 1024 + 1)).toEqual({ status: 413, error: "Without a Content-Length one request takes at most 1 MiB of events. With it: 10 MiB." });
  });

  test("10,000 events are taken at once, in entries that a worker can hold, and each is counted", async () => {
    const events = Array.from({ length: 10_000 }, (_, i) => ({ site_id: "big", event_type: "pageview", path: `/${i % 7}`, user_id: `u${i % 1_000}` }));
    expect((await post(JSON.stringify(events))).body).toEqual({ status: "accepted", accepted: 10_000, refused: [] });
    const entries = await world.redis.xrange(world.context.eventsStream, "-", "+");
    expect(entries.length).toBeGreaterThanOrEqual(20);
    expect(Math.max(...entries.map(([, fields]) => fields[3]!.length))).toBeLessThan(256 * 1024);
    await world.recordAll();
    expect(await world.stats({ site_id: "big", limit: "2" })).toMatchObject({ total_views: 10_000, unique_users: 1_000, top_paths: [{ path: "/0", views: 1429 }, { path: "/1", views: 1429 }] });
  });

  test("an entry's size is bound by its characters as well", async () => {
    const events = Array.from({ length: 300 }, (_, i) => ({ site_id: "wide", event_type: "x", path: `${i}${"ü".repeat(490)}`, user_id: "😀".repeat(255) }));
    expect((await post(JSON.stringify(events))).status).toBe(202);
    const entries = await world.redis.xrange(world.context.eventsStream, "-", "+");
    expect(Math.max(...entries.map(([, fields]) => fields[3]!.length))).toBeLessThan(140 * 1024);
    await world.recordAll();
    expect(await world.sql("select count(*) from events where site_id = 'wide'")).toEqual([{ count: 300 }]);
  });
});
