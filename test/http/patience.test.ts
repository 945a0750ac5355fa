import { createHash } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import express from "express";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createHttpServer } from "../../src/http/server.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";
import { connectRaw, expectRefusal, inboxOf } from "./raw.ts";

const IDLE_MS = 1_000;

let world: World;
let errors: ReturnType<typeof vi.spyOn>;
const sockets = new Map<number, Socket>(); // the server's, by the port at the other end
beforeAll(async () => {
  world = await openWorld({ UPLOAD_IDLE_SECONDS: String(IDLE_MS / 1_000), SMALL_OBJECT_BYTES: "1024" });
  world.site.server.on("connection", (socket: Socket) => sockets.set(socket.remotePort!, socket));
  errors = vi.spyOn(world.context.log, "error");
});
afterAll(() => world.close());

const PART = '--b\r\nContent-Disposition: form-data; name="file"; filename="slow.bin"\r\n\r\n';
const LAST = "\r\n--b--\r\n";

/** The head of an upload of `size` bytes by either door, and what stands before and behind the bytes. */
const doors = {
  form: (size: number) => ({
    head: `POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${PART.length + size + LAST.length}\r\n\r\n${PART}`, end: LAST,
  }),
  body: (size: number) => ({ head: `PUT /api/upload/slow.bin HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`, end: "" }),
  chunked: () => ({ head: "PUT /api/upload/slow.bin HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", end: "0\r\n\r\n" }),
};

describe.concurrent("an upload on which nothing moves is given up", () => {
  test.each([
    ["after its headers, by form", doors.form(50).head.replace(PART, ""), ""],
    ["after its headers, by body", doors.body(50).head, ""],
    ["in the middle of a small one, by form", doors.form(50).head, "half of it"],
    ["in the middle of a small one, by body", doors.body(50).head, "half of it"],
    ["in the middle of a small one, in chunks", doors.chunked().head, "a\r\nhalf of it\r\n"],
    ["in the middle of a large one, by form", doors.form(50_000).head, "half of it".repeat(2_000)],
    ["in the middle of a large one, by body", doors.body(50_000).head, "half of it".repeat(2_000)],
    ["before the end of its form", doors.form(50).head, "x".repeat(50)],
  ])("%s", async (_when, head, bytes) => {
    const connection = connectRaw(world.url);
    await connection.send(head + bytes);
    const sentAt = performance.now();
    expectRefusal(await connection.answer(), "REQUEST_TIMEOUT");
    expect(performance.now() - sentAt).toBeGreaterThan(IDLE_MS * 0.9);
    await connection.closed;
  });
});

/** Sends a bit of it again and again, until it is told to stop or the connection is gone. */
function drip(connection: ReturnType<typeof connectRaw>, bytes: string | Buffer, everyMs: number) {
  const timer = setInterval(() => void connection.send(bytes), everyMs);
  void connection.closed.then(() => clearInterval(timer));
  return timer;
}

describe.concurrent("an upload that brings less than UPLOAD_MIN_BYTES_PER_SECOND is given up, though it always moves", () => {
  test.each([
    ["a small form", doors.form(500).head, "a"],
    ["a large form", doors.form(50_000).head + "x".repeat(5_000), "a"],
    ["a small body", doors.body(500).head, "a"],
    ["a large body", doors.body(50_000).head + "x".repeat(5_000), "a"],
    ["a body in chunks of a byte", doors.chunked().head, "1\r\na\r\n"],
    ["trailers behind a body", `${doors.chunked().head}5\r\nhello\r\n0\r\nX-Slow: `, "a"],
    ["one whose last byte would come before long", doors.body(40).head, "a"], // six seconds
  ])("%s", async (_what, head, drop) => {
    const connection = connectRaw(world.url);
    await connection.send(head);
    const sentAt = performance.now();
    drip(connection, drop, 150);
    expectRefusal(await connection.answer(), "REQUEST_TIMEOUT");
    expect(performance.now() - sentAt).toBeGreaterThan(IDLE_MS * 0.9);
    await connection.closed;
  });
});

describe.concurrent("a slow upload that brings more is never cut", () => {
  const EVERY_MS = 200;
  const STEPS = 20; // 4 s: four times the patience
  const STEP_BYTES = 40; // 200 bytes a second: three times the least
  test.each([
    ["a small form", doors.form(STEPS * STEP_BYTES), STEP_BYTES],
    ["a large form", doors.form(STEPS * 1_000), 1_000],
    ["a small body", doors.body(STEPS * STEP_BYTES), STEP_BYTES],
    ["a large body", doors.body(STEPS * 1_000), 1_000],
  ])("%s", async (_what, { head, end }, stepBytes) => {
    const bytes = Buffer.alloc(STEPS * stepBytes, "drop by drop ");
    const connection = connectRaw(world.url);
    const startedAt = performance.now();
    await connection.send(head);
    for (let at = 0; at < bytes.length; at += stepBytes) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS)); // the slowness itself
      expect(await connection.send(bytes.subarray(at, at + stepBytes))).toBe(true);
    }
    await connection.send(end);
    const answer = await connection.answer();
    expect([answer.status, JSON.parse(answer.text).sha256]).toEqual([202, createHash("sha256").update(bytes).digest("hex")]);
    expect(performance.now() - startedAt).toBeGreaterThan(3 * IDLE_MS);
    connection.close();
  });
});

describe.concurrent("slowness is not held against a client", () => {
  async function serve(app: express.Express, leastBytesPerSecond: number, idleMs = 600) {
    const server = createHttpServer({ app, idleMs, leastBytesPerSecond });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    return { server, connection: connectRaw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) };
  }

  test.each([
    ["while we do not read", (req: express.Request) => void setTimeout(() => req.resume(), 2_000)],
    ["while we have paused in the middle", (req: express.Request) => {
      req.once("data", () => {
        req.pause();
        setTimeout(() => req.resume(), 2_000);
      });
    }],
  ])("%s", async (_when, read) => {
    const app = express().put("/", (req, res) => {
      read(req);
      req.on("end", () => void res.status(204).end());
    });
    const { server, connection } = await serve(app, 10_000);
    await connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n");
    void connection.send(Buffer.alloc(300_000));
    expect((await connection.answer()).status).toBe(204);
    connection.close();
    server.close();
  });

  test("where the least rate is 0", async () => {
    const app = express().put("/", (req, res) => void req.on("data", () => {}).on("end", () => void res.status(204).end()));
    const { server, connection } = await serve(app, 0, 2_000);
    await connection.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n");
    const dripping = drip(connection, "a", 300); // six seconds: three times the patience
    expect((await connection.answer()).status).toBe(204);
    clearInterval(dripping);
    connection.close();
    server.close();
  });
});

describe.concurrent("headers that take too long are given up", () => {
  test.each([
    ["a request line that stands still", "GET /hea"],
    ["headers that stand still", "GET /health HTTP/1.1\r\nHost: x\r\n"],
  ])("%s", async (_what, bytes) => {
    const connection = connectRaw(world.url);
    await connection.send(bytes);
    expectRefusal(await connection.answer(), "REQUEST_TIMEOUT");
    await connection.closed;
  });

  test("headers that come a byte at a time", async () => {
    const server = createHttpServer({ app: express(), idleMs: 30_000, headersTimeoutMs: 500 });
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
    const connection = connectRaw(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    await connection.send("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    const dripping = setInterval(() => void connection.send("a"), 50);
    try {
      expectRefusal(await connection.answer(), "REQUEST_TIMEOUT");
      await connection.closed;
    } finally {
      clearInterval(dripping);
      server.close();
    }
  });
});

describe("a connection is closed without a word", () => {
  test("when it never says anything", async () => {
    const connection = connectRaw(world.url);
    await connection.closed;
    expect(connection.rest()).toBe("");
  });

  test("when it does not take its download", async () => {
    const { file_id } = await (await world.put("big.bin", Buffer.alloc(20_000_000, "download "))).json() as { file_id: string };
    const connection = connectRaw(world.url);
    await connection.send(`GET /api/files/${file_id} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(connection.socket, "data");
    connection.socket.pause();
    const served = sockets.get(connection.socket.localPort!)!; // only the server's end can tell when it gave up
    await eventually(() => served.destroyed, true);
    connection.socket.resume();
    await expect(connection.answer()).rejects.toThrow("closed without an answer");
  });
});

test("what was given up left nothing behind, and was not taken for a bug", async () => {
  await world.settleAll();
  await eventually(() => inboxOf(world), []);
  expect(errors).not.toHaveBeenCalled();
});
