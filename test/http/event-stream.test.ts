import { connect, type AddressInfo } from "node:net";
import express from "express";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createAnswerErrors } from "../../src/http/answer-errors.ts";
import { createEventStream, type EventStream, type EventStreamSettings } from "../../src/http/event-stream.ts";
import { createApp } from "../../src/http/app.ts";
import { createHttpServer } from "../../src/http/server.ts";
import { createLog } from "../../src/core/log.ts";
import { eventually } from "../support/eventually.ts";
import { openEvents } from "../support/events.ts";

const closing: (() => Promise<unknown>)[] = [];
let listened: string[];
beforeEach(() => void (listened = []));
afterEach(() => Promise.all(closing.splice(0).map((close) => close())));

/** The real server and app, with the idle time and the least rates of an answer that a stream has to live with. */
async function serve(settings: Partial<EventStreamSettings> = {}, idleMs = 30_000): Promise<{ url: string; stream: EventStream }> {
  const stream = createEventStream({ mostStreams: 100, onFirst: () => listened.push("first"), onLast: () => listened.push("last"), ...settings });
  const router = express.Router();
  router.get("/live", (req, res) => stream.open(req, res));
  const app = createApp({ viewsFolder: "views", publicFolder: "public", packagesFolder: "node_modules", trustProxyHops: 0, locals: {}, routers: [router], ...createAnswerErrors(createLog("silent", "test")) });
  const server = createHttpServer({ app, idleMs, leastBytesPerSecond: 64, leastAnswerBytesPerSecond: 1024 });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await eventually(() => stream.count(), 0);
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/live`, stream };
}

test("everybody gets the same message, encoded once, with headers that keep proxies from holding it back", async () => {
  const { url, stream } = await serve();
  const readers = await Promise.all(Array.from({ length: 3 }, () => openEvents(url)));
  expect(readers[0]!.headers).toMatchObject({
    "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store, no-transform", "x-accel-buffering": "no",
  });
  await stream.send("figures", { text: "two\nlines" });
  for (const { told } of readers) await eventually(() => told, [{ id: expect.stringMatching(/^\d{13}$/), event: "figures", data: { text: "two\nlines" } }]);
  expect(stream.counted()).toEqual({ encoded: 1, dropped: 0 });
  expect(readers[0]!.retryMs()).toBeGreaterThanOrEqual(2_000);
});

test("who comes back gets the last of what is newer than they have, and nothing when they have it", async () => {
  const { url, stream } = await serve();
  await openEvents(url);
  await stream.send("figures", 1);
  await stream.send("recent", "a");
  await stream.send("figures", 2);
  const first = await openEvents(url);
  await eventually(() => first.told.map(({ event, data }) => [event, data]), [["recent", "a"], ["figures", 2]]);
  const [recent, figures] = first.told.map(({ id }) => id) as [string, string];
  const from = async (id: string) => {
    const reader = await openEvents(url, { headers: { "Last-Event-ID": id } });
    await eventually(() => reader.retryMs() !== undefined, true);
    await stream.send("end", id);
    await eventually(() => reader.last("end")?.data, id);
    return reader.told.filter(({ event }) => event !== "end").map(({ data }) => data);
  };
  expect(await from(recent)).toEqual([2]);
  expect(await from(figures)).toEqual([]);
  expect(await from(String(Number(recent) - 1))).toEqual(["a", 2]);
  expect(await from("nonsense")).toEqual(["a", 2]);
});

test("an id of one process means the same to another", async () => {
  const [one, other] = [await serve(), await serve()];
  await openEvents(other.url);
  await other.stream.send("figures", "older");
  const reader = await openEvents(one.url);
  await new Promise((resolve) => setImmediate(resolve));
  await one.stream.send("figures", "seen");
  await eventually(() => reader.last("figures")?.data, "seen");
  const again = await openEvents(other.url, { headers: { "Last-Event-ID": String(Number(reader.last("figures")!.id) + 1) } });
  await eventually(() => again.retryMs() !== undefined, true);
  expect(again.told).toEqual([]);
  await eventually(async () => {
    await other.stream.send("figures", "newer");
    return again.last("figures")?.data;
  }, "newer");
});

test("a stream on which nothing is told lives on heartbeats, also when it is open for longer than a connection may be idle", async () => {
  const { url } = await serve({ heartbeatMs: 150 }, 400);
  const reader = await openEvents(url);
  await eventually(() => reader.comments() >= 8, true);
  expect(reader.isOpen()).toBe(true);
});

test("a reader that takes nothing is dropped with what waits for it, and the others get all", async () => {
  const { url, stream } = await serve({ mostWaitingBytes: 100_000 });
  const slow = await openEvents(url, { paused: true });
  const quick = await openEvents(url);
  const text = "x".repeat(200_000);
  let sent = 0;
  while (stream.counted().dropped === 0 && sent < 200) {
    await stream.send("figures", text);
    sent++;
    await eventually(() => quick.told.length, sent);
  }
  expect(stream.counted().dropped).toBe(1);
  await eventually(() => stream.count(), 1);
  slow.response.resume();
  await slow.whenClosed;
  expect(quick.isOpen()).toBe(true);
});

test("streams that wait behind another on their connection go with it", async () => {
  const { url, stream } = await serve({ mostWaitingBytes: 1_000 });
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write("GET /live HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
  await eventually(() => stream.count(), 3);
  for (let i = 0; i < 5; i++) {
    await stream.send("figures", "x".repeat(500));
    await new Promise((resolve) => setImmediate(resolve)); // the first one's leaves
  }
  await eventually(() => stream.count(), 1); // the two behind take nothing, and are dropped as anybody
  socket.destroy();
  await eventually(() => stream.count(), 0);
});

test("closing does not wait for a reader that takes nothing", async () => {
  const { url, stream } = await serve({ mostWaitingBytes: Number.POSITIVE_INFINITY });
  await openEvents(url, { paused: true });
  for (let i = 0; i < 60; i++) await stream.send("figures", "x".repeat(200_000));
  stream.close();
  await stream.send("figures", "nobody hears");
  await eventually(() => stream.count(), 0, 5_000);
});

test("there are so many streams and no more, one address leaves some to others, and a place is given back", async () => {
  const { url, stream } = await serve({ mostStreams: 4 });
  const readers = [await openEvents(url), await openEvents(url)];
  const refused = await fetch(url);
  expect([refused.status, refused.headers.get("retry-after"), (await refused.json() as { code: string }).code]).toEqual([503, "5", "TOO_BUSY"]);
  await readers[0]!.close();
  await eventually(() => stream.count(), 1);
  expect((await openEvents(url)).status).toBe(200);
});

test("somebody reads for the streams only while there are any, and what was told before is not shown to who comes later", async () => {
  const { url, stream } = await serve();
  const readers = [await openEvents(url), await openEvents(url)];
  expect(listened).toEqual(["first"]);
  await stream.send("figures", "old");
  await Promise.all(readers.map((reader) => reader.close()));
  await eventually(() => listened, ["first", "last"]);
  expect(stream.count()).toBe(0);
  const later = await openEvents(url);
  await eventually(() => later.retryMs() !== undefined, true);
  await stream.send("figures", "new");
  await eventually(() => later.told.map(({ data }) => data), ["new"]);
});

test("HEAD is answered and opens nothing; once closed, all streams end and no more are opened", async () => {
  const { url, stream } = await serve();
  expect((await fetch(url, { method: "HEAD" })).headers.get("content-type")).toMatch(/event-stream/);
  expect(stream.count()).toBe(0);
  const reader = await openEvents(url);
  stream.close();
  await reader.whenClosed;
  expect(reader.response.complete).toBe(true); // ended, not torn
  expect(((await (await fetch(url)).json()) as { code: string }).code).toBe("SHUTTING_DOWN");
});
