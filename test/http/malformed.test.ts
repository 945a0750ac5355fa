import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";
import { ask, connectRaw, expectRefusal, inboxOf } from "./raw.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());

const request = (...lines: string[]) => `${lines.join("\r\n")}\r\n\r\n`;
const put = (headers: string[], body: string) => `${["PUT /api/upload/a.txt HTTP/1.1", "Host: x", ...headers].join("\r\n")}\r\n\r\n${body}`;

describe("a request that is not HTTP, or could be read in two ways, is refused", () => {
  test.each([
    ["no request line at all", request("hello")],
    ["a request line of one word", request("GET", "Host: x")],
    ["a method that is none", request("G@T / HTTP/1.1", "Host: x")],
    ["a method in lower case", request("get / HTTP/1.1", "Host: x")],
    ["a version that does not exist", request("GET /health HTTP/9.9", "Host: x")],
    ["a space in the address", request("GET /a b HTTP/1.1", "Host: x")],
    ["an address with NUL", request("GET /a\0b HTTP/1.1", "Host: x")],
    ["no Host", request("GET /health HTTP/1.1", "Accept: */*")],
    ["bytes of TLS", Buffer.from("16030100f8010000f40303a1b2", "hex")],
    ["a header without a colon", request("GET /health HTTP/1.1", "Host: x", "Nonsense")],
    ["a header without a name", request("GET /health HTTP/1.1", "Host: x", ": value")],
    ["a header with a space before its colon", request("GET /health HTTP/1.1", "Host: x", "X-A : b")],
    ["a header with NUL", request("GET /health HTTP/1.1", "Host: x", "X-A: b\0c")],
    ["a header with a bare CR", request("GET /health HTTP/1.1", "Host: x", "X-A: b\rc")],
    ["a header with a bell", request("GET /health HTTP/1.1", "Host: x", "X-A: \x07")],
    ["a header folded over two lines", request("GET /health HTTP/1.1", "Host: x", "X-A: b", " c")],
    ["a first header that is folded", request("GET /health HTTP/1.1", " Host: x")],
    ["lines that end in LF only", "GET /health HTTP/1.1\nHost: x\n\n"],
    ["both Content-Length and Transfer-Encoding", put(["Content-Length: 5", "Transfer-Encoding: chunked"], "0\r\n\r\n")],
    ["both Transfer-Encoding and Content-Length", put(["Transfer-Encoding: chunked", "Content-Length: 5"], "0\r\n\r\n")],
    ["two different Content-Lengths", put(["Content-Length: 5", "Content-Length: 6"], "hello")],
    ["the same Content-Length twice", put(["Content-Length: 5", "Content-Length: 5"], "hello")],
    ["a list of Content-Lengths", put(["Content-Length: 5, 5"], "hello")],
    ["a negative Content-Length", put(["Content-Length: -5"], "hello")],
    ["a Content-Length with a sign", put(["Content-Length: +5"], "hello")],
    ["a hexadecimal Content-Length", put(["Content-Length: 0x5"], "hello")],
    ["an empty Content-Length", put(["Content-Length: "], "hello")],
    ["a Content-Length beyond 64 bits", put(["Content-Length: 99999999999999999999"], "hello")],
    ["a Transfer-Encoding nobody knows", put(["Transfer-Encoding: xchunked"], "5\r\nhello\r\n0\r\n\r\n")],
    ["a Transfer-Encoding that would have to be undone", put(["Transfer-Encoding: gzip, chunked"], "5\r\nhello\r\n0\r\n\r\n")],
    ["a Transfer-Encoding that does not end in chunked", put(["Transfer-Encoding: chunked, gzip"], "5\r\nhello\r\n0\r\n\r\n")],
    ["a Transfer-Encoding twice", put(["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], "5\r\nhello\r\n0\r\n\r\n")],
    ["a chunk size that is no number", put(["Transfer-Encoding: chunked"], "zz\r\nhello\r\n0\r\n\r\n")],
    ["a negative chunk size", put(["Transfer-Encoding: chunked"], "-5\r\nhello\r\n0\r\n\r\n")],
    ["a chunk size beyond 64 bits", put(["Transfer-Encoding: chunked"], "fffffffffffffffff\r\nhello\r\n0\r\n\r\n")],
    ["a chunk size with 0x", put(["Transfer-Encoding: chunked"], "0x5\r\nhello\r\n0\r\n\r\n")],
    ["a chunk longer than its size", put(["Transfer-Encoding: chunked"], "3\r\nhello\r\n0\r\n\r\n")],
    ["a chunk whose line ends in LF", put(["Transfer-Encoding: chunked"], "5\nhello\r\n0\r\n\r\n")],
    ["a chunk extension with NUL", put(["Transfer-Encoding: chunked"], "5;a=\0\r\nhello\r\n0\r\n\r\n")],
  ])("%s", async (_what, bytes) => {
    const connection = connectRaw(world.url);
    void connection.send(bytes);
    expectRefusal(await connection.answer(), "MALFORMED_REQUEST");
    await connection.closed; // nothing after it is read as a request
    expect(connection.rest()).toBe("");
    expect(await inboxOf(world)).toEqual([]);
  });

  test("a body that ends before its Content-Length", async () => {
    const connection = connectRaw(world.url);
    connection.socket.end(put(["Content-Length: 50"], "hello"));
    expectRefusal(await connection.answer(), "MALFORMED_REQUEST");
    await connection.closed;
    expect(await inboxOf(world)).toEqual([]);
  });

  test("a request hidden in the body of another is not answered", async () => {
    const connection = connectRaw(world.url);
    void connection.send(put(["Content-Length: 6", "Transfer-Encoding: chunked"], "0\r\n\r\n" + request("GET /health HTTP/1.1", "Host: x")));
    expectRefusal(await connection.answer(), "MALFORMED_REQUEST");
    await connection.closed;
    expect(connection.rest()).toBe("");
  });

  test("nonsense sent during a download does not get into the file", async () => {
    const bytes = Buffer.alloc(20_000_000, "download ");
    const { file_id } = await (await world.put("big.bin", bytes)).json() as { file_id: string };
    const connection = connectRaw(world.url);
    await connection.send(request(`GET /api/files/${file_id} HTTP/1.1`, "Host: x"));
    await once(connection.socket, "data");
    connection.socket.pause(); // more than the kernel holds is still to come
    await connection.send(request("N@NSENSE"));
    connection.socket.resume();
    await connection.closed;
    expect(connection.rest()).toMatch(/^HTTP\/1.1 200 OK/);
    expect(connection.rest()).not.toContain("MALFORMED_REQUEST");
    await world.settleAll();
  });

  test.each([
    ["at once", async () => {}],
    ["a moment later", () => new Promise(setImmediate)],
  ])("nonsense sent behind an upload, %s, does not take its receipt from it, and ends the connection", async (_when, later) => {
    const connection = connectRaw(world.url);
    void connection.send(put(["Content-Length: 5"], "hello"));
    await later();
    void connection.send(request("N@NSENSE") + request("GET /health HTTP/1.1", "Host: x"));
    const answer = await connection.answer();
    expect(answer.status).toBe(202);
    await connection.closed;
    if (connection.rest()) expect(connection.rest()).toMatch(/^HTTP\/1.1 400 .*MALFORMED_REQUEST/s); // the receipt was out before the nonsense came
    expect(await inboxOf(world)).toEqual([`manifests/${JSON.parse(answer.text).file_id}`]);
    await world.settleAll();
  });
});

describe("headers", () => {
  test.each([
    ["one of 17 KB", `X-Long: ${"a".repeat(17_000)}`],
    ["a thousand of 20 bytes", Array.from({ length: 1_000 }, (_, i) => `X-${i}: ${"a".repeat(14)}`).join("\r\n")],
  ])("over 16 KiB are refused: %s", async (_what, headers) => {
    expectRefusal(await ask(world.url, request("GET /health HTTP/1.1", "Host: x", headers)), "HEADERS_TOO_LARGE");
  });

  test("over 16 KiB in the address are refused", async () => {
    expectRefusal(await ask(world.url, request(`GET /${"a".repeat(17_000)} HTTP/1.1`, "Host: x")), "HEADERS_TOO_LARGE");
  });

  test("of 15 KB are taken", async () => {
    expect((await ask(world.url, request("GET /health HTTP/1.1", "Host: x", `X-Long: ${"a".repeat(15_000)}`))).status).toBe(200);
  });

  test("may be in any case", async () => {
    expect((await ask(world.url, request("GET /health HTTP/1.1", "hOsT: x", "CONNECTION: Close"))).status).toBe(200);
  });

  test("with an expectation nobody knows do no harm", async () => {
    expect((await ask(world.url, request("GET /health HTTP/1.1", "Host: x", "Expect: the-unexpected"))).status).toBe(200);
  });

  test("that ask for another protocol do no harm", async () => {
    const lines = ["GET /health HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"];
    expect((await ask(world.url, request(...lines))).status).toBe(200);
  });
});

describe("an older client", () => {
  test("of HTTP/1.0, which sends no Host, is answered", async () => {
    const answer = await ask(world.url, request("GET /health HTTP/1.0"));
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.text)).toMatchObject({ status: "ok" });
  });
});

describe("one connection", () => {
  test("answers many requests, refused ones too, as long as no body is left unread", async () => {
    const connection = connectRaw(world.url);
    for (const [line, status] of [["GET /health", 200], ["GET /nothing", 404], ["DELETE /health", 405], ["GET /api/files?limit=x", 400], ["HEAD /health", 200], ["GET /health", 200]] as const) {
      void connection.send(request(`${line} HTTP/1.1`, "Host: x"));
      const [method] = line.split(" ");
      const answer = await connection.answer(method);
      expect([line, answer.status, answer.headers.connection]).toEqual([line, status, "keep-alive"]);
    }
    connection.close();
  });

  test("answers requests sent all at once, in their order", async () => {
    const connection = connectRaw(world.url);
    void connection.send(request("GET /health HTTP/1.1", "Host: x") + put(["Content-Length: 5"], "hello") + request("GET /nothing HTTP/1.1", "Host: x"));
    expect([(await connection.answer()).status, (await connection.answer()).status, (await connection.answer()).status]).toEqual([200, 202, 404]);
    connection.close();
    await world.settleAll();
  });
});
