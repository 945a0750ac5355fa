import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FailureCode } from "../../src/core/errors.ts";
import { ask, expectRefusal, inboxOf } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterAll(() => world.close());

const TYPE = "multipart/form-data; boundary=b";
const LARGE = "large ".repeat(1_000); // over SMALL_OBJECT_BYTES

function post(body: string | Buffer | undefined, type = TYPE) {
  const bytes = Buffer.from(body ?? "");
  const head = ["POST /api/upload HTTP/1.1", "Host: x", `Content-Type: ${type}`, ...(body === undefined ? [] : [`Content-Length: ${bytes.length}`])];
  return ask(world.url, Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), bytes]));
}

/** A part of a form: lines of its header, an empty one, its body. */
const part = (headers: string | string[], body = "hello") => `--b\r\n${[headers].flat().map((line) => `${line}\r\n`).join("")}\r\n${body}\r\n`;
const file = (body = "hello", name = "file", more: string[] = []) => part([`Content-Disposition: form-data; name="${name}"; filename="a.txt"`, ...more], body);
const field = (name: string, value: string) => part(`Content-Disposition: form-data; name="${name}"`, value);
const end = "--b--\r\n";
const many = (count: number, of: (i: number) => string) => Array.from({ length: count }, (_, i) => of(i)).join("");

async function expectNothingKept() {
  await eventually(() => inboxOf(world), []);
  expect(await world.redis.xlen(world.stream)).toBe(0);
  const { status } = await world.upload("a good one");
  expect(status).toBe(202);
  await world.settleAll();
}

describe("a form that is malformed", () => {
  test.each<[string, string | Buffer | undefined, string?]>([
    ["no boundary", file() + end, "multipart/form-data"],
    ["no boundary behind its semicolon", file() + end, "multipart/form-data;"],
    ["an empty boundary", file() + end, "multipart/form-data; boundary="],
    ["a boundary without its closing quote", file() + end, 'multipart/form-data; boundary="b'],
    ["another boundary than it says", file() + end, "multipart/form-data; boundary=c"],
    ["a boundary that is longer than the body", "hello", `multipart/form-data; boundary=${"b".repeat(5_000)}`],
    ["an empty body", ""],
    ["no body at all", undefined],
    ["a body of one byte", "-"],
    ["a body that is garbage", Buffer.from(Array.from({ length: 3_000 }, (_, i) => (i * 7919) & 255))],
    ["a body that is JSON", '{"file": "hello"}'],
    ["a body that is the first boundary", "--b\r\n"],
    ["a body that is half a boundary", "--"],
    ["an end in a part's header", '--b\r\nContent-Disposition: form-data; name="fi'],
    ["an end behind a part's header", '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'],
    ["an end in a small file", file().slice(0, -4)],
    ["an end in a large file", file(LARGE).slice(0, -4)],
    ["an end behind a small file, before the last boundary", file()],
    ["an end behind a large file, before the last boundary", file(LARGE)],
    ["an end in the last boundary", file() + "--b-"],
    ["an end in a field", field("uploader_id", "me").slice(0, -3)],
    ["an end in a field behind the file", file(LARGE) + field("uploader_id", "me").slice(0, -3)],
    ["a part's header that is no header", part("Nonsense") + end],
    ["a part's header with NUL", part('Content-Disposition: form-data; name="file"; filename="a\0.txt"') + end],
    ["a part's header that begins with a colon", part(": form-data") + end],
    ["a part's header line of 17 KB", file("hello", "file", [`X-Long: ${"a".repeat(17_000)}`]) + end],
    ["a part with a file name of 17 KB", part(`Content-Disposition: form-data; name="file"; filename="${"a".repeat(17_000)}"`) + end],
    ["a part with a thousand header lines of 20 bytes", file("hello", "file", Array.from({ length: 1_000 }, (_, i) => `X-${i}: ${"a".repeat(14)}`)) + end],
    ["a second part with a header of 17 KB, behind a large file", file(LARGE) + part(`X-Long: ${"a".repeat(17_000)}`) + end],
    ["a field without a name", part("Content-Disposition: form-data") + file() + end],
    ["a file without a field's name", part('Content-Disposition: form-data; filename="a.txt"') + end],
    ["a field's name that is empty", field("", "me") + file() + end],
    ...[["a file", file()], ["a large file", file(LARGE)], ["a file in another field", file("hello", "other")],
      ["a file without a name", part(['Content-Disposition: form-data; name="file"', "Content-Type: application/octet-stream"])]].flatMap(([what, late]): [string, string][] => [
      [`${what} behind its end`, end + field("a", "b") + late + end],
      [`${what} behind its end, that has no end`, end + field("a", "b") + late!.slice(0, -2)],
    ]),
    ["fields behind its end", file() + end + field("a", "b") + field("uploader_id", "me") + end],
  ])("%s is refused", async (_what, body, type) => {
    expectRefusal(await post(body, type), "MALFORMED_MULTIPART");
    await expectNothingKept();
  });
});

describe("a body that is no form", () => {
  test.each<[string, string?]>([
    ["JSON", "application/json"],
    ["an urlencoded form", "application/x-www-form-urlencoded"],
    ["text", "text/plain"],
    ["bytes", "application/octet-stream"],
    ["another multipart", "multipart/mixed; boundary=b"],
    ["a type that begins like ours", "multipart/form-data-more; boundary=b"],
    ["a type that ends like ours", "x-multipart/form-data; boundary=b"],
    ["a list of types", "text/plain, multipart/form-data; boundary=b"],
    ["nonsense", ";;;"],
    ["an empty type", ""],
    ["no type at all"],
  ])("%s is refused", async (_what, type) => {
    const bytes = Buffer.from(file() + end);
    const head = `POST /api/upload HTTP/1.1\r\nHost: x\r\n${type === undefined ? "" : `Content-Type: ${type}\r\n`}Content-Length: ${bytes.length}\r\n\r\n`;
    expectRefusal(await ask(world.url, head + bytes), "UNSUPPORTED_MEDIA_TYPE");
    await expectNothingKept();
  });

  test("is told by the type alone, in any case and with spaces", async () => {
    expect((await post(file() + end, "Multipart/Form-Data ; charset=utf-8; boundary=\"b\"")).status).toBe(202);
    await world.settleAll();
  });
});

describe("a form without a file is refused", () => {
  test.each([
    ["no part at all", end],
    ["no part before its end, and a file behind it", end + file()],
    ["no part, behind a preamble", "This is a message in MIME format.\r\n" + end],
    ["another field only", field("uploader_id", "me") + end],
    ["a field 'file' that is text", field("file", "hello") + end],
    ["a file without a file name", part(['Content-Disposition: form-data; name="file"', "Content-Type: application/octet-stream"]) + end],
    ["an empty file name, as browsers send where none was chosen", part(['Content-Disposition: form-data; name="file"; filename=""', "Content-Type: application/octet-stream"], "") + end],
    ["an empty file name with bytes", part(['Content-Disposition: form-data; name="file"; filename=""', "Content-Type: application/octet-stream"]) + end],
    ["a part without Content-Disposition", part("Content-Type: text/plain") + end],
    ["a part that is an attachment", part('Content-Disposition: attachment; name="file"; filename="a.txt"') + end],
    ["a part whose Content-Disposition is nonsense", part('Content-Disposition: form-data; name="file; filename') + end],
  ])("%s", async (_what, body) => {
    expectRefusal(await post(body), "FILE_REQUIRED");
    await expectNothingKept();
  });
});

describe("a form with something wrong in it is refused", () => {
  test.each<[string, string, FailureCode]>([
    ["a file in another field", file("hello", "upload") + end, "UNEXPECTED_FIELD"],
    ["a large file in another field", file(LARGE, "upload") + end, "UNEXPECTED_FIELD"],
    ["a file in a field of another case", file("hello", "File") + end, "UNEXPECTED_FIELD"],
    ["a file in file[]", file("hello", "file[]") + end, "UNEXPECTED_FIELD"],
    ["a file in __proto__", file("hello", "__proto__") + end, "UNEXPECTED_FIELD"],
    ["a file in constructor", file("hello", "constructor") + end, "UNEXPECTED_FIELD"],
    ["a file in toString", file("hello", "toString") + end, "UNEXPECTED_FIELD"],
    ["a second file", file() + file() + end, "UNEXPECTED_FIELD"],
    ["a second file behind a large one", file(LARGE) + file() + end, "UNEXPECTED_FIELD"],
    ["a second file in another field", file(LARGE) + file("hello", "other") + end, "UNEXPECTED_FIELD"],
    ["a second, empty file", file(LARGE) + file("") + end, "UNEXPECTED_FIELD"],
    ["a hundred files", many(100, () => file()) + end, "UNEXPECTED_FIELD"],
    ["zero bytes", file("") + end, "EMPTY_FILE"],
    ["zero bytes and a field", file("") + field("uploader_id", "me") + end, "EMPTY_FILE"],
    ["eleven fields before the file", many(11, (i) => field(`f${i}`, "x")) + file() + end, "TOO_MANY_FIELDS"],
    ["eleven fields behind a small file", file() + many(11, (i) => field(`f${i}`, "x")) + end, "TOO_MANY_FIELDS"],
    ["eleven fields behind a large file", file(LARGE) + many(11, (i) => field(`f${i}`, "x")) + end, "TOO_MANY_FIELDS"],
    ["ten thousand fields", many(10_000, (i) => field(`f${i}`, "x")) + end, "TOO_MANY_FIELDS"],
    ["fifty parts that are nothing", file(LARGE) + many(50, () => part("X: y")) + end, "TOO_MANY_FIELDS"],
    ["a field name of 101 bytes", field("n".repeat(101), "x") + file() + end, "TOO_MANY_FIELDS"],
    ["a field name of 10 KB", field("n".repeat(10_000), "x") + file(LARGE) + end, "TOO_MANY_FIELDS"],
    ["a field name of 101 bytes behind a large file", file(LARGE) + field("n".repeat(101), "x") + end, "TOO_MANY_FIELDS"],
    ["a field value of 2,049 bytes", field("note", "v".repeat(2_049)) + file() + end, "TOO_MANY_FIELDS"],
    ["a field value of 1 MB", field("note", "v".repeat(1_000_000)) + file() + end, "TOO_MANY_FIELDS"],
    ["a field value of 60 KB behind a large file", file(LARGE) + field("note", "v".repeat(60_000)) + end, "TOO_MANY_FIELDS"],
    ["the nested field a[b]", field("a[b]", "x") + file() + end, "TOO_MANY_FIELDS"],
    ["the nested field a[b][c][d]", field("a[b][c][d]", "x") + file() + end, "TOO_MANY_FIELDS"],
    ["a thousand levels of nesting", field("a" + "[b]".repeat(1_000), "x") + file() + end, "TOO_MANY_FIELDS"],
    ["the list item a[999999]", field("a[999999]", "x") + file() + end, "TOO_MANY_FIELDS"],
    ["the list a[]", field("a[]", "x") + file() + end, "TOO_MANY_FIELDS"],
    ["the name a], behind a large file", file(LARGE) + field("a]", "x") + end, "TOO_MANY_FIELDS"],
    ["a[__proto__][x]", field("a[__proto__][x]", "x") + file() + end, "TOO_MANY_FIELDS"],
    ["__proto__[x]", field("__proto__[x]", "x") + file(LARGE) + end, "TOO_MANY_FIELDS"],
    ["an uploader_id of 129 characters", field("uploader_id", "u".repeat(129)) + file() + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id of 129 emoji", field("uploader_id", "🚀".repeat(129)) + file() + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id of 129 characters behind a large file", file(LARGE) + field("uploader_id", "u".repeat(129)) + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id with a line break", field("uploader_id", "me\nyou") + file(LARGE) + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id with NUL", field("uploader_id", "me\0you") + file() + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id with an escape", field("uploader_id", "\x1b[31mme") + file() + end, "INVALID_UPLOADER_ID"],
    ["an uploader_id with a C1 control", field("uploader_id", "me\u0085you") + file() + end, "INVALID_UPLOADER_ID"],
    ["two uploader_ids", field("uploader_id", "me") + field("uploader_id", "you") + file(LARGE) + end, "INVALID_UPLOADER_ID"],
    ["two uploader_ids around the file", field("uploader_id", "me") + file(LARGE) + field("uploader_id", "you") + end, "INVALID_UPLOADER_ID"],
  ])("%s", async (_what, body, code) => {
    expectRefusal(await post(body), code);
    await expectNothingKept();
  });
});

describe("a form with something strange in it that does no harm is accepted", () => {
  test.each<[string, string, Record<string, unknown>?]>([
    ["a field nobody knows", field("note", "hello") + file() + end],
    ["ten fields", many(10, (i) => field(`f${i}`, "x")) + file() + end],
    ["a field name of 100 bytes", field("n".repeat(100), "x") + file() + end],
    ["a field value of 2,048 bytes", field("note", "v".repeat(2_048)) + file() + end],
    ["the field __proto__", field("__proto__", "x") + file() + end],
    ["the field constructor", field("constructor", "x") + file() + end],
    ["the field hasOwnProperty", field("hasOwnProperty", "x") + file() + end],
    ["a field of a charset nobody knows", part(['Content-Disposition: form-data; name="note"', "Content-Type: text/plain; charset=klingon"]) + file() + end],
    ["a preamble and an epilogue", "preamble\r\n" + file() + end + "epilogue"],
    ["a part without Content-Disposition before the file", part("X: y") + file() + end],
    ["the boundary's beginning in the file", file("\r\n--\r\n--a\r\n-b--\r\n") + end, { size: 17 }],
    ["a file of line breaks only", file("\r\n\r\n") + end, { size: 4 }],
    ["headers of a part in any case", part("CONTENT-DISPOSITION: FORM-DATA; NAME=\"file\"; FILENAME=\"a.txt\"") + end, { filename: "a.txt" }],
    ["an uploader_id that is empty", field("uploader_id", "") + file() + end],
  ])("%s", async (_what, body, receipt = {}) => {
    const answer = await post(body);
    expect([answer.status, JSON.parse(answer.text)]).toEqual([202, expect.objectContaining({ filename: "a.txt", ...receipt })]);
    await world.settleAll();
  });
});

describe("an uploader_id is kept as it was sent", () => {
  test.each([
    ["before the file", (id: string) => field("uploader_id", id) + file() + end, "user_1"],
    ["behind a small file", (id: string) => file() + field("uploader_id", id) + end, "user_1"],
    ["behind a large file", (id: string) => file(LARGE) + field("uploader_id", id) + end, "user_1"],
    ["of 128 characters", (id: string) => field("uploader_id", id) + file() + end, "u".repeat(128)],
    ["of 128 emoji", (id: string) => field("uploader_id", id) + file() + end, "🚀".repeat(128)],
    ["in any script", (id: string) => field("uploader_id", id) + file() + end, "Jürgen 東京 مرحبا"],
    ["that looks like a formula", (id: string) => field("uploader_id", id) + file() + end, "=1+1"],
  ])("%s", async (_what, body, id) => {
    const answer = await post(body(id));
    expect(answer.status).toBe(202);
    await world.settleAll();
    const { file_id } = JSON.parse(answer.text);
    expect(await world.sql("select uploader_id from file_events where file_id = $1", [file_id])).toEqual([{ uploader_id: id }]);
  });

  test.each([
    ["in the query", "?uploader_id=J%C3%BCrgen", "", "Jürgen"],
    ["in a header, as UTF-8", "", "X-Uploader-Id: Jürgen ÅÄ東京", "Jürgen ÅÄ東京"],
    ["in both: the query counts", "?uploader_id=query", "X-Uploader-Id: header", "query"],
  ])("when the body is the file: %s", async (_where, query, header, id) => {
    const answer = await ask(world.url, `PUT /api/upload/a.txt${query} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n${header}${header && "\r\n"}\r\nhello`);
    expect(answer.status).toBe(202);
    await world.settleAll();
    expect(await world.sql("select uploader_id from file_events where file_id = $1", [JSON.parse(answer.text).file_id])).toEqual([{ uploader_id: id }]);
  });

  test.each([
    ["of 129 characters", `?uploader_id=${"u".repeat(129)}`, ""],
    ["with an encoded NUL", "?uploader_id=a%00b", ""],
    ["twice in the query", "?uploader_id=a&uploader_id=b", ""],
    ["in a header that is not UTF-8", "", Buffer.from("X-Uploader-Id: J\xfcrgen", "latin1")],
  ])("or refused when the body is the file: %s", async (_what, query, header) => {
    const request = Buffer.concat([
      Buffer.from(`PUT /api/upload/a.txt${query} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n`), Buffer.from(header), Buffer.from(`${header.length > 0 ? "\r\n" : ""}\r\nhello`),
    ]);
    expectRefusal(await ask(world.url, request), "INVALID_UPLOADER_ID");
    await expectNothingKept();
  });
});

describe("an Idempotency-Key that is none is refused, by both doors", () => {
  test.each([
    ["empty", ""],
    ["of 256 characters", "k".repeat(256)],
    ["with a character outside ASCII", "schlüssel"],
    ["with a tab", "a\tb"],
  ])("%s", async (_what, key) => {
    const [form, body] = [file(LARGE) + end, LARGE];
    expectRefusal(await ask(world.url, `POST /api/upload HTTP/1.1\r\nHost: x\r\nIdempotency-Key: ${key}\r\nContent-Type: ${TYPE}\r\nContent-Length: ${form.length}\r\n\r\n${form}`), "INVALID_IDEMPOTENCY_KEY");
    expectRefusal(await ask(world.url, `PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nIdempotency-Key: ${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`), "INVALID_IDEMPOTENCY_KEY");
    await expectNothingKept();
  });
});
