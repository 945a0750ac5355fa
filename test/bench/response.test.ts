import { expect, test } from "vitest";
import { AnswerReader } from "../../bench/load/response.ts";

const read = (text: string) => new AnswerReader().read(Buffer.from(text, "latin1"));

test("an answer with a length is whole when its last byte is there", () => {
  const answer = read('HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"size":1024}');
  expect(answer?.status).toBe(202);
  expect(answer?.bytes.toString("latin1", answer.bodyStart)).toBe('{"size":1024}');
  expect(answer?.closes).toBe(false);
});

test.each([
  ["a length", "HTTP/1.1 201 Created\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello"],
  ["no body", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"],
  ["a length of 0", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"],
  ["chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"],
  ["chunks and trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n0\r\nDone: yes\r\n\r\n"],
])("an answer with %s may come byte by byte and is whole at its last one", (_, text) => {
  const reader = new AnswerReader();
  const bytes = Buffer.from(text, "latin1");
  const reused = Buffer.alloc(1); // the socket's buffer is written over by the next byte
  for (const [at, byte] of bytes.entries()) {
    reused[0] = byte;
    const answer = reader.read(reused);
    if (at < bytes.length - 1) expect(answer).toBeUndefined();
    else expect(answer?.bytes.equals(bytes)).toBe(true);
  }
});

test("one answer after another is read from one connection", () => {
  const reader = new AnswerReader();
  const first = Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  expect(reader.read(first.subarray(0, 20))).toBeUndefined();
  expect(reader.read(first.subarray(20))?.status).toBe(200);
  expect(reader.read(Buffer.from("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))).toMatchObject({ status: 503, closes: true });
});

test("half an answer of a lost connection is forgotten", () => {
  const reader = new AnswerReader();
  expect(reader.read(Buffer.from("HTTP/1.1 200 OK\r\nContent-"))).toBeUndefined();
  reader.reset();
  expect(reader.read(Buffer.from("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"))?.status).toBe(202);
});

test.each([
  ["is not HTTP", "SSH-2.0-OpenSSH\r\n\r\n"],
  ["has a status that is none", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"],
  ["does not say where it ends", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"],
  ["is followed by more", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"],
  ["has a chunk without a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
])("what %s is an error", (_, text) => {
  expect(() => read(text)).toThrow();
});

test("a head that does not end is given up", () => {
  expect(() => read(`HTTP/1.1 200 OK\r\n${"X: y\r\n".repeat(20_000)}`)).toThrow("does not end");
});
