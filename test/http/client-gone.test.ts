import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";
import { connectRaw, inboxOf } from "./raw.ts";

let world: World;
let errors: ReturnType<typeof vi.spyOn>;
const sockets = new Map<number, Socket>(); // the server's, by the port at the other end
beforeAll(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
  errors = vi.spyOn(world.context.log, "error");
  world.site.server.on("connection", (socket: Socket) => sockets.set(socket.remotePort!, socket));
});
afterAll(() => world.close());

const form = (part: string, size: number) =>
  `POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${part.length + size}\r\n\r\n${part}`;
const FILE = '--b\r\nContent-Disposition: form-data; name="file"; filename="gone.bin"\r\n\r\n';
const FIELD = '--b\r\nContent-Disposition: form-data; name="uploader_id"\r\n\r\nme';
const put = (size: number) => `PUT /api/upload/gone.bin HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`;
const CHUNKED = "PUT /api/upload/gone.bin HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

/** How a client can go. */
const ways: [string, (socket: Socket) => void][] = [
  ["is reset", (socket) => void socket.resetAndDestroy()],
  ["is closed", (socket) => void socket.destroy()],
  ["ends its half and waits", (socket) => void socket.end()],
];

describe.each(ways)("a client whose connection %s in the middle of its upload leaves nothing behind", (_way, leave) => {
  test.each([
    ["after the headers, by form", form(FILE, 100).replace(FILE, ""), 0],
    ["in a part's header", form(FILE, 100).slice(0, -20), 0],
    ["in a field before the file", form(FIELD, 100), 0],
    ["before the first byte of the file", form(FILE, 100), 0],
    ["in a small file, by form", form(FILE, 1_000), 500],
    ["behind a small file, before the form's last boundary", form(FILE, 506), 500],
    ["in a large file, by form", form(FILE, 9_000_000), 3_000_000],
    ["just past the size that is kept in memory, by form", form(FILE, 100_000), 1_100],
    ["after the headers, by body", put(100), 0],
    ["in a small body", put(1_000), 500],
    ["one byte before the end of a small body", put(1_000), 999],
    ["just past the size that is kept in memory", put(100_000), 1_025],
    ["in a large body", put(9_000_000), 3_000_000],
    ["one byte before the end of a large body", put(3_000_001), 3_000_000],
    ["between two chunks of a small body", `${CHUNKED}5\r\nhello\r\n`, 0],
    ["in a chunk of a large body", `${CHUNKED}ffffff\r\n`, 3_000_000],
  ])("%s", async (_when, head, sizeBytes) => {
    const connection = connectRaw(world.url);
    const bytes = Buffer.alloc(sizeBytes, "gone ");
    await connection.send(head);
    const served = () => sockets.get(connection.socket.localPort!)!;
    if (sizeBytes > 0) await connection.send(bytes);
    await eventually(() => served().bytesRead, Buffer.byteLength(head) + sizeBytes); // it got that far
    const { localPort } = connection.socket;
    leave(connection.socket);
    await connection.closed;
    await eventually(() => sockets.get(localPort!)!.destroyed, true);
    await eventually(() => inboxOf(world), []);
    expect(await world.redis.xlen(world.stream)).toBe(0);
  });

  test("and the server answers on, and saw nothing that somebody has to act on", async () => {
    expect((await world.upload("still here")).status).toBe(202);
    expect((await world.put("still.bin", Buffer.alloc(5_000, "here "))).status).toBe(202);
    await world.settleAll();
    expect(await inboxOf(world)).toEqual([]);
    expect(errors).not.toHaveBeenCalled();
  });
});

test("a client that goes away in the middle of its download is nobody's trouble", async () => {
  const { file_id } = await (await world.put("big.bin", Buffer.alloc(20_000_000, "download "))).json() as { file_id: string };
  const connection = connectRaw(world.url);
  await connection.send(`GET /api/files/${file_id} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await new Promise((resolve) => connection.socket.once("data", resolve));
  const { localPort } = connection.socket;
  connection.socket.resetAndDestroy();
  await eventually(() => sockets.get(localPort!)!.destroyed, true);
  expect((await fetch(`${world.url}/health`)).status).toBe(200);
  expect(errors).not.toHaveBeenCalled();
});
