import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FailureCode } from "../../src/core/errors.ts";
import { openWorld, type World } from "../support/world.ts";
import { connectRaw, expectRefusal, inboxOf, type Answer } from "./raw.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());

const request = (...lines: string[]) => `${lines.join("\r\n")}\r\n\r\n`;
const put = (headers: string[], body: string, line = "PUT /api/upload/a.txt HTTP/1.1") => `${[line, "Host: x", ...headers].join("\r\n")}\r\n\r\n${body}`;
const CHUNKED = "Transfer-Encoding: chunked";
const HELLO = "5\r\nhello\r\n0\r\n\r\n";
const HIDDEN = request("GET /hidden HTTP/1.1", "Host: x");

/** Sends it, closes its end behind the first final answer, and takes all that comes. */
async function answersTo(bytes: string | Buffer): Promise<Answer[]> {
  const connection = connectRaw(world.url);
  void connection.send(bytes);
  const answers = [await connection.answer("PUT")];
  while (answers.at(-1)!.status === 100) answers.push(await connection.answer("PUT"));
  connection.socket.end();
  await connection.closed;
  for (;;) {
    const more = await connection.answer("PUT").catch(() => undefined);
    if (!more) break;
    answers.push(more);
  }
  expect(connection.rest()).toBe("");
  return answers;
}

async function expectAccepted(answers: Answer[], sizeBytes = 5) {
  expect(answers.map(({ status }) => status)).toEqual([202]);
  expect(JSON.parse(answers[0]!.text).size).toBe(sizeBytes);
  await world.settleAll();
}

describe("a body whose end two readers could see in two places is refused, and nothing behind its head is answered", () => {
  test.each([
    ["CL.TE", put(["Content-Length: 43", CHUNKED], `0\r\n\r\n${HIDDEN}`)],
    ["TE.CL", put([CHUNKED, "Content-Length: 4"], `26\r\n${HIDDEN}\r\n0\r\n\r\n`)],
    ["TE.TE, the second hidden by a name", put([CHUNKED, "Transfer-Encoding: x"], HELLO + HIDDEN)],
    ["TE.TE, twice the same", put([CHUNKED, CHUNKED], HELLO + HIDDEN)],
    ["TE with a vertical tab", put(["Transfer-Encoding: \x0bchunked"], HELLO + HIDDEN)],
    ["TE with an empty element behind it", put(["Transfer-Encoding: chunked,"], HELLO + HIDDEN)],
    ["TE with an empty element before it", put(["Transfer-Encoding: ,chunked"], HELLO + HIDDEN)],
    ["TE with a parameter", put(["Transfer-Encoding: chunked;q=1"], HELLO + HIDDEN)],
    ["TE in quotes", put(['Transfer-Encoding: "chunked"'], HELLO + HIDDEN)],
    ["TE folded", put(["Transfer-Encoding:\r\n chunked"], HELLO + HIDDEN)],
    ["TE with a blank before its colon", put(["Transfer-Encoding : chunked"], HELLO + HIDDEN)],
    ["TE behind a bare CR", put(["X: y\rTransfer-Encoding: chunked"], HELLO + HIDDEN)],
    ["TE behind a bare LF", put(["X: y\nTransfer-Encoding: chunked", "Content-Length: 5"], HELLO + HIDDEN)],
    ["TE of HTTP/1.0, which has none", put([CHUNKED], HELLO + HIDDEN, "PUT /api/upload/a.txt HTTP/1.0")],
    ["a length of two numbers", put(["Content-Length: 5 5"], "hello" + HIDDEN)],
    ["a length with a fraction", put(["Content-Length: 5.0"], "hello" + HIDDEN)],
    ["a length with an exponent", put(["Content-Length: 1e1"], "hello" + HIDDEN)],
    ["a length folded", put(["Content-Length:\r\n 5"], "hello" + HIDDEN)],
    ["a length with a blank before its colon", put(["Content-Length : 5"], "hello" + HIDDEN)],
    ["a chunk size with a blank behind it", put([CHUNKED], "5 \r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk size with a blank before it", put([CHUNKED], " 5\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk size that is empty", put([CHUNKED], "\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk size with a sign", put([CHUNKED], "+5\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk size with an underscore", put([CHUNKED], "0_5\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk line that ends in CR", put([CHUNKED], "5\rhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk without its line end", put([CHUNKED], "5\r\nhello0\r\n\r\n" + HIDDEN)],
    ["a chunk shorter than its size", put([CHUNKED], "8\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk extension with a bare LF", put([CHUNKED], "5;a\nb\r\nhello\r\n0\r\n\r\n" + HIDDEN)],
    ["a chunk extension of 20 KB", put([CHUNKED], `5;${"a".repeat(20_000)}\r\nhello\r\n0\r\n\r\n${HIDDEN}`)],
    ["a trailer that is a length", put([CHUNKED], "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n" + HIDDEN)],
    ["a trailer that is a coding", put([CHUNKED], "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN)],
    ["a trailer without a colon", put([CHUNKED], "5\r\nhello\r\n0\r\nnonsense\r\n\r\n" + HIDDEN)],
  ])("%s", async (_what, bytes) => {
    const [answer, ...more] = await answersTo(bytes);
    expectRefusal(answer!, "MALFORMED_REQUEST");
    expect([answer!.headers.connection, more]).toEqual(["close", []]);
    expect(await inboxOf(world)).toEqual([]);
  });

  test("trailers of 20 KB", async () => {
    expectRefusal((await answersTo(put([CHUNKED], `5\r\nhello\r\n0\r\nX: ${"a".repeat(20_000)}\r\n\r\n`)))[0]!, "HEADERS_TOO_LARGE");
    expect(await inboxOf(world)).toEqual([]);
  });
});

describe("a body whose end is odd but certain is taken", () => {
  test.each([
    ["a coding in capitals", put(["Transfer-Encoding: CHUNKED"], HELLO)],
    ["a coding behind a tab", put(["Transfer-Encoding:\tchunked"], HELLO)],
    ["a length with a zero before it", put(["Content-Length: 05"], "hello")],
    ["a chunk size with twenty zeros", put([CHUNKED], `${"0".repeat(20)}5\r\nhello\r\n0\r\n\r\n`)],
    ["a chunk extension in quotes", put([CHUNKED], '5;a="b;c"\r\nhello\r\n0;d\r\n\r\n')],
    ["a trailer, which says nothing here", put([CHUNKED], "5\r\nhello\r\n0\r\nIdempotency-Key: ü\r\n\r\n")],
    ["a length of HTTP/1.0", put(["Content-Length: 5"], "hello", "PUT /api/upload/a.txt HTTP/1.0")],
  ])("%s", async (_what, bytes) => {
    await expectAccepted(await answersTo(bytes));
  });

  test("the body of a question is read past, and what it holds is no request", async () => {
    for (const [header, body] of [[`Content-Length: ${HIDDEN.length}`, HIDDEN], [CHUNKED, `${HIDDEN.length.toString(16)}\r\n${HIDDEN}\r\n0\r\n\r\n`]]) {
      const answers = await answersTo(`GET /health HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n${body}`);
      expect(answers.map(({ status }) => status)).toEqual([200]);
    }
  });
});

describe("behind a refusal", () => {
  test("for its head nothing on the connection is answered, however much was sent at once", async () => {
    const uploads = put(["Content-Length: 5"], "hello").repeat(20);
    const answers = await answersTo(put(["Content-Length: -5"], "hello") + uploads);
    expect(answers.map(({ status }) => status)).toEqual([400]);
    expect(await inboxOf(world)).toEqual([]);
  });

  test("of a body that was not read the connection is closed, and the body is no request", async () => {
    const answers = await answersTo(`PUT /api/upload/.. HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n${HIDDEN.repeat(100)}`);
    expect(answers.map(({ status }) => status)).toEqual([400]);
  });

  test("without a body the next request is answered", async () => {
    const answers = await answersTo(request("DELETE /health HTTP/1.1", "Host: x") + request("GET /nothing HTTP/1.1", "Host: x"));
    expect(answers[0]!.status).toBe(405);
  });
});

describe("an address", () => {
  test.each<[string, string, number, FailureCode?]>([
    ["in absolute form is that of its path", "GET http://elsewhere.example/health HTTP/1.1", 200],
    ["of the server as a whole is nothing", "OPTIONS * HTTP/1.1", 404, "NOT_FOUND"],
    ["in authority form is malformed", "GET elsewhere.example:80 HTTP/1.1", 400, "MALFORMED_REQUEST"],
    ["of another host, to be connected to, is malformed", "CONNECT elsewhere.example:443 HTTP/1.1", 400, "MALFORMED_REQUEST"],
    ["with bytes outside ASCII is malformed", "GET /caf\u00e9 HTTP/1.1", 400, "MALFORMED_REQUEST"],
    ["that cannot be decoded is malformed", "GET /api/files/%zz HTTP/1.1", 400, "MALFORMED_REQUEST"],
    ["with two slashes is another", "GET //health HTTP/1.1", 404, "NOT_FOUND"],
    ["with dots is not tidied", "GET /./health HTTP/1.1", 404, "NOT_FOUND"],
    ["that climbs out of a folder is nothing", "GET /assets/../../package.json HTTP/1.1", 404, "NOT_FOUND"],
    ["that climbs out of a folder, encoded, is nothing", "GET /assets/%2e%2e/%2e%2e/package.json HTTP/1.1", 404, "NOT_FOUND"],
    ["with NUL in a folder is nothing", "GET /assets/%00 HTTP/1.1", 404, "NOT_FOUND"],
    ["does not take TRACE, which would repeat cookies", "TRACE /health HTTP/1.1", 405, "METHOD_NOT_ALLOWED"],
    ["does not take a method of WebDAV", "PROPFIND /health HTTP/1.1", 405, "METHOD_NOT_ALLOWED"],
    ["does not take a method that a header names", "GET /api/upload HTTP/1.1\r\nX-HTTP-Method-Override: POST", 405, "METHOD_NOT_ALLOWED"],
  ])("%s", async (_what, line, status, code) => {
    const [answer] = await answersTo(request(line, "Host: x"));
    if (code) expectRefusal(answer!, code);
    expect(answer!.status).toBe(status);
    if (status === 405) expect(answer!.headers.allow).toMatch(/^[A-Z, ]+$/);
  });
});

describe("another protocol", () => {
  test.each<[string, string | Buffer]>([
    ["HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["HTTP/2 with its first frame", Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])])],
    ["SMTP", "EHLO mail.example\r\n"],
    ["SSH", "SSH-2.0-OpenSSH_9.6\r\n"],
    ["Redis", "*1\r\n$4\r\nPING\r\n"],
    ["lines that end in CR", "GET /health HTTP/1.1\rHost: x\r\r"],
  ])("is refused: %s", async (_what, bytes) => {
    expectRefusal((await answersTo(bytes))[0]!, "MALFORMED_REQUEST");
  });

  test("that is only offered is not changed to", async () => {
    const [answer] = await answersTo(request("GET /health HTTP/1.1", "Host: x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"));
    expect(answer!.status).toBe(200);
    await expectAccepted(await answersTo(put(["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"], "hello")));
  });
});

describe("Host", () => {
  test.each([
    ["twice", ["Host: x", "Host: y"]],
    ["twice the same", ["Host: x", "host: x"]],
    ["with a blank", ["Host: a b"]],
    ["with a path", ["Host: a/b"]],
    ["with a user", ["Host: me@a"]],
    ["with a question", ["Host: a?b"]],
    ["with bytes outside ASCII", ["Host: \u00e9"]],
  ])("is refused: %s", async (_what, lines) => {
    const [answer, ...more] = await answersTo(Buffer.from(request("GET /health HTTP/1.1", ...lines), "latin1"));
    expectRefusal(answer!, "MALFORMED_REQUEST");
    expect([answer!.headers.connection, more]).toEqual(["close", []]);
  });

  test.each(["localhost:8080", "[::1]:8080", "files.example.com", "10.0.0.1", "a_b-c.example", ""])("is taken: %j", async (host) => {
    expect((await answersTo(request("GET /health HTTP/1.1", `Host: ${host}`)))[0]!.status).toBe(200);
  });
});

describe("Expect", () => {
  test.each([
    ["100-continue twice", "PUT /api/upload/a.txt HTTP/1.1", ["Expect: 100-continue", "Expect: 100-continue"], [202]],
    ["100-continue and something else", "PUT /api/upload/a.txt HTTP/1.1", ["Expect: 100-continue, more"], [202]],
    ["nothing", "PUT /api/upload/a.txt HTTP/1.1", ["Expect: "], [202]],
    ["100-continue in capitals", "PUT /api/upload/a.txt HTTP/1.1", ["Expect: 100-CONTINUE"], [100, 202]],
    ["100-continue of HTTP/1.0, which knows no such answer", "PUT /api/upload/a.txt HTTP/1.0", ["Expect: 100-continue"], [202]],
  ])("%s", async (_what, line, headers, statuses) => {
    const answers = await answersTo(put([...headers, "Content-Length: 5"], "hello", line));
    expect(answers.map(({ status }) => status)).toEqual(statuses);
    await world.settleAll();
  });
});

test("clients that ask for a tunnel and are gone before the answer do no harm", async () => {
  await Promise.all(Array.from({ length: 20 }, async () => {
    const connection = connectRaw(world.url);
    await connection.send(request("CONNECT elsewhere.example:443 HTTP/1.1", "Host: x") + "x".repeat(100_000));
    connection.socket.resetAndDestroy();
  }));
  expect((await answersTo(request("GET /health HTTP/1.1", "Host: x")))[0]!.status).toBe(200);
});

test("of thousands of headers none is left out, as long as they are 16 KiB", async () => {
  const many = Array.from({ length: 2_800 }, () => "a:b");
  const [answer] = await answersTo(put([...many, "Idempotency-Key: \t", "Content-Length: 5"], "hello"));
  expectRefusal(answer!, "INVALID_IDEMPOTENCY_KEY");
});
