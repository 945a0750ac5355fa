import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import express from "express";
import { afterEach, describe, expect, test } from "vitest";
import { createHttpServer } from "../../src/http/server.ts";
import { ask, connectRaw, expectRefusal, holdConnections } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";
import { download, ROTS, storeTwice } from "./rot.ts";

const MIB = 1024 ** 2;
const LARGE = Buffer.alloc(20 * MIB, "more than all kernels and all of our buffers hold on the way ");
const [HERE, THERE] = ["127.0.0.1", "127.0.0.2"];
const HELLO = "PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";

let world: World;
const { held, open, closeAll } = holdConnections();
afterEach(async () => {
  closeAll();
  await world.close();
});

async function upload(bytes: Buffer): Promise<string> {
  const response = await world.put("large.bin", bytes);
  expect(response.status).toBe(202);
  return (await response.json() as { file_id: string }).file_id;
}

const get = (id: string, headers = "", method = "GET") => `${method} /api/files/${id} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;

/** Asks for a file and then reads no more of it than its head. @returns the status */
async function begin(id: string, from = HERE, headers = ""): Promise<number> {
  const connection = open(world.url, { from });
  await connection.send(get(id, headers));
  await once(connection.socket, "data");
  connection.socket.pause();
  return Number(connection.rest().slice("HTTP/1.1 ".length, "HTTP/1.1 200".length));
}

const underWay = () => world.site.downloadsUnderWay();

describe("places for downloads", () => {
  test("are for one address at most as many as are free, so that others still download, and everybody uploads", async () => {
    world = await openWorld({ MAX_CONCURRENT_DOWNLOADS: "16" });
    const id = await upload(LARGE);
    const taken = [0, 0, 0];
    for (const [i, from] of [HERE, THERE, "127.0.0.3"].entries()) {
      while ((await begin(id, from)) === 200) taken[i]!++;
    }
    expect(taken).toEqual([8, 4, 2]);
    const whole = await ask(world.url, get(id), "GET", { from: "127.0.0.4" });
    expect([whole.status, whole.body.equals(LARGE)]).toEqual([200, true]);
    for (const from of [HERE, "127.0.0.4"]) expect((await ask(world.url, HELLO, "PUT", { from })).status).toBe(202);
  });

  test("are MAX_CONCURRENT_DOWNLOADS; beyond them it is refused in words, and what sends no bytes is not", async () => {
    world = await openWorld({ MAX_CONCURRENT_DOWNLOADS: "4" });
    const id = await upload(LARGE);
    for (const from of [HERE, HERE, THERE, "127.0.0.3"]) expect(await begin(id, from)).toBe(200);
    for (const headers of ["", "Range: bytes=5-9\r\n"]) {
      const refused = await ask(world.url, get(id, headers), "GET", { from: "127.0.0.4" });
      expectRefusal(refused, "TOO_BUSY");
      expect(JSON.parse(refused.text).error).toMatch(/downloads are under way/);
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
      for (const header of ["etag", "content-disposition", "content-range", "last-modified"]) expect(refused.headers).not.toHaveProperty(header);
    }
    expect((await ask(world.url, get(id, "", "HEAD"))).status).toBe(200);
    expect((await ask(world.url, get(id, "If-None-Match: *\r\n"))).status).toBe(304);
    expect((await ask(world.url, get(id, "Accept: application/json\r\n"))).status).toBe(200);
    expect((await ask(world.url, HELLO, "PUT")).status).toBe(202);
    expect(underWay()).toBe(4);
  });

  test("come back when downloads are finished, break off, or never had their turn on the connection", async () => {
    world = await openWorld({ MAX_CONCURRENT_DOWNLOADS: "8" });
    const id = await upload(LARGE);
    expect(await begin(id)).toBe(200);
    expect(underWay()).toBe(1);
    held[0]!.socket.resume();
    expect((await held[0]!.answer()).body.equals(LARGE)).toBe(true);
    await eventually(underWay, 0);

    for (let i = 0; i < 4; i++) expect(await begin(id, HERE, i % 2 ? "Range: bytes=1-\r\n" : "")).toBe(i % 2 ? 206 : 200);
    for (const [i, { socket }] of held.slice(1).entries()) {
      if (i < 2) socket.resetAndDestroy();
      else socket.destroy();
    }
    await eventually(underWay, 0);

    let opened = 0;
    world.site.server.on("request", (_req, res: ServerResponse) => void res.once("pipe", () => opened++));
    const pipelined = open(world.url);
    pipelined.socket.pause();
    await pipelined.send(get(id).repeat(3));
    await eventually(() => opened, 3);
    expect(underWay()).toBe(3);
    pipelined.close();
    await eventually(underWay, 0);

    const hasty = connectRaw(world.url); // gone while its files are being opened
    await hasty.send(get(id).repeat(3));
    await eventually(underWay, 3);
    hasty.close();
    await eventually(underWay, 0);
  });

  test.each(ROTS.filter(({ settings }) => !("STORAGE_MODE" in settings)))("come back after a download of $what", async ({ settings, sizeBytes, rot }) => {
    world = await openWorld({ ...settings, MAX_CONCURRENT_DOWNLOADS: "1" });
    const { key, ids } = await storeTwice(world, sizeBytes);
    await rot(world, key);
    const { status, complete } = await download(world, ids[0]!);
    expect(status === 502 || !complete).toBe(true);
    await eventually(underWay, 0);
  });

  test("leave the bucket's other connections to uploads, however many slow readers there are", async () => {
    world = await openWorld({ INBOX: "s3", S3_TIMEOUT_SECONDS: "2" });
    const id = await upload(LARGE);
    const statuses = [];
    for (let i = 0; i < 80; i++) statuses.push(await begin(id, `127.0.1.${i + 1}`));
    expect([statuses.filter((status) => status === 200).length, statuses.filter((status) => status === 503).length]).toEqual([64, 16]);
    expect((await ask(world.url, HELLO, "PUT")).status).toBe(202);
    await upload(LARGE);
    expect((await fetch(`${world.url}/ready`)).status).toBe(200);
  });
});

/** Takes what comes at this rate, evenly. */
function readSlowly(socket: Socket, bytesPerSecond: number): void {
  const startedAt = performance.now();
  let taken = 0;
  const isAhead = () => taken > ((performance.now() - startedAt) * bytesPerSecond) / 1000;
  socket.on("error", () => {}).on("data", (chunk: Buffer) => {
    taken += chunk.length;
    if (isAhead()) socket.pause();
  });
  const timer = setInterval(() => void (isAhead() || socket.resume()), 10);
  socket.once("close", () => clearInterval(timer));
}

describe("a reader", () => {
  test("that takes less than DOWNLOAD_MIN_BYTES_PER_SECOND is given up, though it never stands still", async () => {
    world = await openWorld({ UPLOAD_IDLE_SECONDS: "1", DOWNLOAD_MIN_BYTES_PER_SECOND: String(8 * MIB) });
    const id = await upload(LARGE);
    const connection = open(world.url);
    const [served] = await Promise.all([once(world.site.server, "connection"), connection.send(get(id))]) as [[Socket], boolean];
    connection.socket.removeAllListeners("data");
    const beganAt = performance.now();
    readSlowly(connection.socket, 2 * MIB); // all of it would take ten seconds
    await eventually(() => served[0].destroyed, true);
    expect(performance.now() - beganAt).toBeGreaterThan(900);
    await eventually(underWay, 0);
    expect(connection.socket.bytesRead).toBeLessThan(LARGE.length);
  });

  const least = 4 * MIB;
  test.each<[string, (res: express.Response) => void, (socket: Socket) => void]>([
    ["that is slow, but not as slow as that", sendAll(60), (socket) => readSlowly(socket, 3 * least)],
    ["that pauses now and then", sendAll(60), (socket) => {
      readSlowly(socket, 6 * least);
      setTimeout(() => socket.removeAllListeners("data").pause(), 1_200);
      setTimeout(() => readSlowly(socket, 6 * least), 1_800);
    }],
    ["that is quicker than the storage", (res) => {
      let sent = 0;
      const timer = setInterval(() => (sent++ < 15 ? res.write(Buffer.alloc(50_000)) : (clearInterval(timer), res.end())), 200);
    }, (socket) => void socket.resume()],
    ["whose storage is silent for longer than it may be", (res) => {
      res.write("before");
      setTimeout(() => res.end("after"), 3_000);
    }, (socket) => void socket.resume()],
  ])("%s gets all of it", async (_who, send, read) => {
    world = await openWorld();
    let finished = false;
    const app = express().get("/", (_req, res) => {
      res.once("finish", () => void (finished = true));
      send(res);
    });
    const server = createHttpServer({ app, idleMs: 1_000, leastAnswerBytesPerSecond: least });
    await new Promise<void>((resolve) => void server.listen(0, HERE, resolve));
    const socket = connect((server.address() as AddressInfo).port, HERE);
    socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    read(socket);
    await once(socket, "close");
    expect(finished).toBe(true);
    server.close();
  });
});

function sendAll(mebibytes: number) {
  return (res: express.Response) => {
    let left = mebibytes;
    const more = (): void => {
      while (left-- > 0) if (!res.write(Buffer.alloc(MIB))) return void res.once("drain", more);
      res.end();
    };
    more();
  };
}
