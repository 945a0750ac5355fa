import type { Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FailureCode } from "../../src/core/errors.ts";
import { ask, connectRaw, expectRefusal, inboxOf } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

const LIMIT = 1_000_000;
const MIB = 1_048_576;
const FORM_OVERHEAD = 65_536;

const TYPE = "Content-Type: multipart/form-data; boundary=b";
const FILE = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n';
const END = "\r\n--b--\r\n";

const post = (...headers: string[]) => `${["POST /api/upload HTTP/1.1", "Host: x", TYPE, ...headers].join("\r\n")}\r\n\r\n`;
const put = (...headers: string[]) => `${["PUT /api/upload/a.bin HTTP/1.1", "Host: x", ...headers].join("\r\n")}\r\n\r\n`;
const inChunks = (bytes: Buffer) => Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n0\r\n\r\n")]);
const sized = (head: (...headers: string[]) => string, bytes: Buffer) => Buffer.concat([Buffer.from(head(`Content-Length: ${bytes.length}`)), bytes]);
const chunked = (head: (...headers: string[]) => string, bytes: Buffer) => Buffer.concat([Buffer.from(head("Transfer-Encoding: chunked")), inChunks(bytes)]);
const form = (sizeBytes: number) => Buffer.concat([Buffer.from(FILE), Buffer.alloc(sizeBytes, "x"), Buffer.from(END)]);
const body = (sizeBytes: number) => Buffer.alloc(sizeBytes, "x");

const requests: [string, (sizeBytes: number) => Buffer][] = [
  ["a form", (size) => sized(post, form(size))],
  ["a form in chunks", (size) => chunked(post, form(size))],
  ["a body", (size) => sized(put, body(size))],
  ["a body in chunks", (size) => chunked(put, body(size))],
];

describe.each([
  ["far larger than what is kept in memory", LIMIT, 1_024],
  ["as large as what is kept in memory", 1_024, 1_024],
  ["smaller than what is kept in memory", 1_000, 4_096],
])("with a limit that is %s", (_what, limit, small) => {
  let world: World;
  const sockets = new Map<number, Socket>(); // the server's, by the port at the other end
  beforeAll(async () => {
    world = await openWorld({ MAX_UPLOAD_BYTES: String(limit), SMALL_OBJECT_BYTES: String(small) });
    world.site.server.on("connection", (socket: Socket) => sockets.set(socket.remotePort!, socket));
  });
  afterAll(() => world.close());

  async function expectNothingKept() {
    await eventually(() => inboxOf(world), []);
    expect((await world.upload("a good one")).status).toBe(202);
    await world.settleAll();
  }

  describe.each(requests)("%s", (_door, request) => {
    test("of exactly the limit is accepted", async () => {
      const answer = await ask(world.url, request(limit));
      expect([answer.status, JSON.parse(answer.text).size]).toEqual([202, limit]);
      await world.settleAll();
    });

    test("one byte over the limit is refused", async () => {
      expectRefusal(await ask(world.url, request(limit + 1)), "FILE_TOO_LARGE");
      await expectNothingKept();
    });
  });

  if (limit !== LIMIT) return;

  describe("a length announced as too large is refused before the body is read", () => {
    test.each([
      ["a body one byte over", put(`Content-Length: ${LIMIT + 1}`)],
      ["a body of 5 GB", put("Content-Length: 5000000000")],
      ["a body of 2^63 bytes", put("Content-Length: 9223372036854775807")],
      ["a form of 5 GB", post("Content-Length: 5000000000")],
      ["a form that has more around the file than any form has", post(`Content-Length: ${LIMIT + FORM_OVERHEAD + 1}`)],
      ["a body of a client that asks first", put(`Content-Length: ${LIMIT + 1}`, "Expect: 100-continue")],
      ["a form of a client that asks first", post("Content-Length: 5000000000", "Expect: 100-continue")],
    ])("%s", async (_what, head) => {
      const connection = connectRaw(world.url);
      await connection.send(head);
      expectRefusal(await connection.answer("PUT"), "FILE_TOO_LARGE"); // the first answer: no 100 before it
      await connection.closed;
      expect(connection.rest()).toBe("");
      await expectNothingKept();
    });
  });

  describe("a client that asks first", () => {
    test.each([
      ["with a form", post, form(5)],
      ["with a large form", post, form(100_000)],
      ["with a body", put, body(5)],
      ["with a body of the limit", put, body(LIMIT)],
    ])("is told to go on, and has its receipt: %s", async (_what, head, bytes) => {
      const connection = connectRaw(world.url);
      await connection.send(head(`Content-Length: ${bytes.length}`, "Expect: 100-continue"));
      expect((await connection.answer("PUT")).status).toBe(100);
      await connection.send(bytes);
      expect((await connection.answer("PUT")).status).toBe(202);
      connection.close();
      await world.settleAll();
    });

    test.each<[string, string, FailureCode]>([
      ["an uploader_id that is too long", `PUT /api/upload/a.bin?uploader_id=${"u".repeat(129)} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n`, "INVALID_UPLOADER_ID"],
      ["a name that is none", "PUT /api/upload/.. HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "INVALID_FILE_NAME"],
      ["a bad key", put("Content-Length: 5", "Idempotency-Key: ö", "Expect: 100-continue"), "INVALID_IDEMPOTENCY_KEY"],
      ["a form that is none", "POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "UNSUPPORTED_MEDIA_TYPE"],
      ["an address there is nothing at", "PUT /api/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "NOT_FOUND"],
      ["a wrong method", "PUT /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", "METHOD_NOT_ALLOWED"],
    ])("is refused at once for what can be known before the body: %s", async (_what, head, code) => {
      expectRefusal(await ask(world.url, head, "PUT"), code);
    });
  });

  describe.concurrent("a body without end is refused, and the connection closed while the client still sends", () => {
    const part = (header: string) => `--b\r\n${header}\r\n\r\n`;
    test.each<[string, string, string, FailureCode]>([
      ["a body", put("Transfer-Encoding: chunked"), "", "FILE_TOO_LARGE"],
      ["a form's file", post("Transfer-Encoding: chunked"), FILE, "FILE_TOO_LARGE"],
      ["a form's preamble", post("Transfer-Encoding: chunked"), "no boundary yet", "FILE_TOO_LARGE"],
      ["a form's epilogue", post("Transfer-Encoding: chunked"), `${FILE}hello${END}`, "FILE_TOO_LARGE"],
      ["a part that is nothing", post("Transfer-Encoding: chunked"), part("X: y"), "FILE_TOO_LARGE"],
      ["a file without a name", post("Transfer-Encoding: chunked"), part('Content-Disposition: form-data; name="file"\r\nContent-Type: application/octet-stream'), "FILE_TOO_LARGE"],
      ["a field", post("Transfer-Encoding: chunked"), part('Content-Disposition: form-data; name="note"'), "FILE_TOO_LARGE"],
      ["a part's header", post("Transfer-Encoding: chunked"), "--b\r\nX-Long: ", "MALFORMED_MULTIPART"],
      ["a file in another field", post("Transfer-Encoding: chunked"), FILE.replace('"file"', '"other"'), "UNEXPECTED_FIELD"],
      ["a second file", post("Transfer-Encoding: chunked"), `${FILE}hello\r\n${FILE}`, "UNEXPECTED_FIELD"],
      ["a file whose name is none", post("Transfer-Encoding: chunked"), FILE.replace("a.bin", ".."), "INVALID_FILE_NAME"],
      ["a file behind a field that is too long", post("Transfer-Encoding: chunked"), `${part('Content-Disposition: form-data; name="note"')}${"x".repeat(3_000)}\r\n${FILE}`, "TOO_MANY_FIELDS"],
      ["what follows a large file and a field of a bad name", post("Transfer-Encoding: chunked"), `${FILE}${"x".repeat(50_000)}\r\n${part('Content-Disposition: form-data; name="a]"')}v\r\n${part("X: y")}`, "TOO_MANY_FIELDS"],
      ["a form of too large a length", post("Content-Length: 5000000000"), FILE, "FILE_TOO_LARGE"],
      ["a body at an address there is nothing at", put("Transfer-Encoding: chunked").replace("/api/upload", "/api/nothing"), "", "NOT_FOUND"],
      ["a body of a method that is not taken", put("Transfer-Encoding: chunked").replace("PUT", "DELETE"), "", "METHOD_NOT_ALLOWED"],
      ["a body of a question", put("Transfer-Encoding: chunked").replace("PUT /api/upload/a.bin", "GET /api/nothing"), "", "NOT_FOUND"],
    ])("%s", async (_what, head, beginning, code) => {
      const connection = connectRaw(world.url);
      const framed = (bytes: Buffer) => (head.includes("chunked") ? inChunks(bytes).subarray(0, -5) : bytes);
      await connection.send(head);
      if (beginning) await connection.send(framed(Buffer.from(beginning)));
      const { localPort } = connection.socket;
      const piece = framed(Buffer.alloc(65_536, "x"));
      const sending = (async () => {
        while (await connection.send(piece));
      })();
      expectRefusal(await connection.answer("PUT"), code);
      const answeredAt = performance.now();
      await sending;
      await connection.closed;
      expect(performance.now() - answeredAt).toBeLessThan(3_000);
      expect(sockets.get(localPort!)!.bytesRead).toBeLessThan(LIMIT + 3 * MIB);
    });
  });

  test("nothing of the bodies without end was kept", expectNothingKept);

  test("every one of many clients that are refused in mid-sending reads why", async () => {
    const bytes = Buffer.alloc(8 * MIB, "x");
    const answers = await Promise.all(Array.from({ length: 40 }, async (_, i) => {
      const connection = connectRaw(world.url);
      void connection.send(i % 2 ? put("Transfer-Encoding: chunked") : put(`Content-Length: ${bytes.length}`));
      void connection.send(i % 2 ? inChunks(bytes) : bytes);
      const { status } = await connection.answer("PUT");
      await connection.closed;
      return status;
    }));
    expect(answers).toEqual(Array(40).fill(413));
    await expectNothingKept();
  });

  test("a client that reads only when all is sent reads why, if it is not much", async () => {
    const connection = connectRaw(world.url);
    connection.socket.pause();
    await connection.send(put("Content-Length: 5000000000"));
    const { localPort } = connection.socket;
    await eventually(() => sockets.get(localPort!)!.bytesWritten > 0, true);
    for (let sentBytes = 0; sentBytes < 900_000; sentBytes += 100_000) expect(await connection.send(Buffer.alloc(100_000))).toBe(true);
    connection.socket.resume();
    expectRefusal(await connection.answer(), "FILE_TOO_LARGE");
    await connection.closed;
    expect(connection.broken()).toBeUndefined();
  });

  test("fetch and its kind read why, too", async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.put("big.bin", Buffer.alloc(8 * MIB)).then((response) => response.status)));
    expect(answers).toEqual(Array(10).fill(413));
    await expectNothingKept();
  });
});
