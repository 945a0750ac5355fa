import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";
import { ask, expectRefusal } from "./raw.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterAll(() => world.close());

const pattern = (sizeBytes: number) => Buffer.from(Array.from({ length: sizeBytes }, (_, i) => (i * 31 + (i >> 8)) & 255));
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe.each([
  ["small, in the inbox", 100, false],
  ["small, settled", 101, true],
  ["large, in the inbox", 700_000, false],
  ["large, settled", 700_001, true],
])("the bytes of a file that is %s", (_where, size, settled) => {
  const bytes = pattern(size);
  const etag = `"${sha256(bytes)}"`;
  let id: string;
  beforeAll(async () => {
    const response = await world.put('東京 "1".bin', bytes, { "Content-Type": "application/x-thing" });
    id = ((await response.json()) as { file_id: string }).file_id;
    if (settled) await world.settleAll();
  });
  afterAll(() => world.settleAll());

  const get = (headers: Record<string, string> = {}, method = "GET") =>
    ask(world.url, `${method} /api/files/${id} HTTP/1.1\r\nHost: x\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`, method);

  const ofADownload = () => ({
    "content-type": "application/x-thing", "content-disposition": "attachment; filename=\"?? \\\"1\\\".bin\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC%20%221%22.bin",
    "x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'", "cross-origin-resource-policy": "same-origin",
    "accept-ranges": "bytes", etag, "cache-control": "private, no-cache", "last-modified": expect.stringMatching(/GMT$/),
  });

  test("come whole, as a download that no browser shows or guesses at", async () => {
    const answer = await get();
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({ ...ofADownload(), "content-length": String(size) });
    expect(answer.headers).not.toHaveProperty("content-range");
    expect(answer.body.equals(bytes)).toBe(true);
  });

  test("are announced by HEAD, and not sent", async () => {
    const answer = await get({ Connection: "close" }, "HEAD");
    expect(answer.status).toBe(200);
    expect(answer.headers).toMatchObject({ ...ofADownload(), "content-length": String(size) });
    expect(answer.body).toHaveLength(0);
  });

  describe("come in part", () => {
    test.each<[string, string, number, number]>([
      ["the first four", "bytes=0-3", 0, 3],
      ["the first one", "bytes=0-0", 0, 0],
      ["some from the middle", "bytes=7-42", 7, 42],
      ["the last three", "bytes=-3", size - 3, size - 1],
      ["all but the first five", "bytes=5-", 5, size - 1],
      ["the last one", `bytes=${size - 1}-`, size - 1, size - 1],
      ["all of them", "bytes=0-", 0, size - 1],
      ["to an end that lies behind the last", `bytes=90-${size + 1_000}`, 90, size - 1],
      ["to an end that is no safe integer", "bytes=90-99999999999999999999", 90, size - 1],
      ["more of the last than there are", `bytes=-${size + 1}`, 0, size - 1],
      ["across what is read at once", `bytes=${Math.floor(size / 2)}-${size - 2}`, Math.floor(size / 2), size - 2],
      ["with blanks around", "bytes= 0-3 ", 0, 3],
      ["with the unit in capitals", "Bytes=0-3", 0, 3],
    ])("%s: %s", async (_which, range, start, end) => {
      const answer = await get({ Range: range });
      expect([answer.status, answer.headers["content-range"]]).toEqual([206, `bytes ${start}-${end}/${size}`]);
      expect(answer.headers).toMatchObject({ ...ofADownload(), "content-length": String(end - start + 1) });
      expect(answer.body.equals(bytes.subarray(start, end + 1))).toBe(true);
    });
  });

  test.each([
    ["behind the last byte", `bytes=${size}-`], ["far behind it", `bytes=${size * 2}-${size * 3}`], ["the last none", "bytes=-0"], ["beyond all integers", "bytes=99999999999999999999-"],
  ])("do not reach %s: %s", async (_which, range) => {
    const answer = await get({ Range: range });
    expectRefusal(answer, "RANGE_NOT_SATISFIABLE");
    expect(answer.headers["content-range"]).toBe(`bytes */${size}`);
    for (const name of ["content-disposition", "etag", "last-modified"]) expect(answer.headers).not.toHaveProperty(name);
  });

  test.each([
    ["nonsense", "nonsense"], ["letters for numbers", "bytes=a-b"], ["another unit", "lines=0-3"], ["no unit", "0-3"], ["no range", "bytes="], ["a dash alone", "bytes=-"],
    ["an end before its beginning", "bytes=5-2"], ["a fraction", "bytes=0.5-3"], ["a sign", "bytes=+1-3"], ["two dashes", "bytes=1--3"], ["hexadecimal", "bytes=0x1-0x3"], ["an exponent", "bytes=1e1-1e2"],
    ["nothing at all", ""], ["two ranges", "bytes=0-3,5-8"], ["ranges that overlap", "bytes=0-9,5-8"], ["a hundred ranges", `bytes=${Array.from({ length: 100 }, (_, i) => `${i}-${i}`).join(",")}`],
  ])("come whole when the range is %s: %s", async (_what, range) => {
    const answer = await get({ Range: range });
    expect([answer.status, answer.headers["content-length"], answer.body.length]).toEqual([200, String(size), size]);
  });

  test.each<[string, Record<string, string>, number]>([
    ["a range if it is still this file", { Range: "bytes=0-3", "If-Range": etag }, 206],
    ["a range if it is still another file", { Range: "bytes=0-3", "If-Range": '"0000"' }, 200],
    ["a range if it is about this file", { Range: "bytes=0-3", "If-Range": `W/${etag}` }, 200],
    ["a range if it is of an old time", { Range: "bytes=0-3", "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT" }, 200],
    ["a range if it is nonsense", { Range: "bytes=0-3", "If-Range": "nonsense" }, 200],
    ["a range behind the end, if it is still another file", { Range: `bytes=${size}-`, "If-Range": '"0000"' }, 200],
    ["no range, if it is still this file", { "If-Range": etag }, 200],
    ["it unless it is known", { "If-None-Match": etag }, 304],
    ["it unless it is about known", { "If-None-Match": `W/${etag}` }, 304],
    ["it unless one of those is known", { "If-None-Match": `"a", ${etag} , "b"` }, 304],
    ["it unless any is known", { "If-None-Match": "*" }, 304],
    ["it unless another is known", { "If-None-Match": '"0000"' }, 200],
    ["it unless nonsense is known", { "If-None-Match": sha256(bytes) }, 200],
    ["a range unless it is known", { "If-None-Match": etag, Range: "bytes=0-3" }, 304],
    ["a range behind the end unless it is known", { "If-None-Match": etag, Range: `bytes=${size}-` }, 304],
    ["a range unless another is known", { "If-None-Match": '"0000"', Range: "bytes=0-3" }, 206],
  ])("asked for %s", async (_what, headers, status) => {
    const answer = await get(headers);
    expect([answer.status, answer.body.length]).toEqual([status, status === 304 ? 0 : status === 206 ? 4 : size]);
    expect(answer.headers).toMatchObject({ etag, "cache-control": "private, no-cache" });
  });

  test("are announced whole by HEAD also where a range is asked for, and unchanged where they are known", async () => {
    const ranged = await get({ Range: "bytes=0-3", Connection: "close" }, "HEAD");
    expect([ranged.status, ranged.headers["content-length"], ranged.headers["content-range"]]).toEqual([200, String(size), undefined]);
    expect((await get({ "If-None-Match": etag, Connection: "close" }, "HEAD")).status).toBe(304);
  });

  test.each([
    ["application/json"], ["application/json; charset=utf-8"], ["application/json, text/plain"],
  ])("give way to what is known of the file for those who accept %s", async (accept) => {
    const answer = await get({ Accept: accept });
    expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/json; charset=utf-8"]);
    expect(answer.headers).not.toHaveProperty("content-disposition");
    expect(JSON.parse(answer.text)).toEqual({
      id, name: '東京 "1".bin', size, sha256: sha256(bytes), content_type: "application/x-thing", uploader_id: null, damaged: false, event_time: expect.stringMatching(/Z$/),
      stored_at: settled ? expect.stringMatching(/Z$/) : null, url: `/api/files/${id}`, status_url: `/api/files/${id}/status`,
    });
  });

  test.each([["*/*"], ["text/html,application/xhtml+xml,*/*;q=0.8"], ["text/html, application/json"], [""]])("come to those who accept %s", async (accept) => {
    expect((await get({ Accept: accept })).headers["content-type"]).toBe("application/x-thing");
  });
});

describe("the name of a download", () => {
  test.each([
    ["plain", "a b.txt", 'attachment; filename="a b.txt"'],
    ["with quotes", 'a"b\\.txt'.replace("\\", ""), 'attachment; filename="a\\"b.txt"'],
    ["with accents: both as ASCII and as it is", "Übung.txt", "attachment; filename=\"?bung.txt\"; filename*=UTF-8''%C3%9Cbung.txt"],
    ["with emoji", "🚀.txt", "attachment; filename=\"?.txt\"; filename*=UTF-8''%F0%9F%9A%80.txt"],
    ["that looks encoded", "a%20b.txt", "attachment; filename=\"a%20b.txt\"; filename*=UTF-8''a%2520b.txt"],
  ])("%s", async (_what, name, disposition) => {
    const { file_id } = (await (await world.put(name, "hello")).json()) as { file_id: string };
    const answer = await ask(world.url, `GET /api/files/${file_id} HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(answer.headers["content-disposition"]).toBe(disposition);
    await world.settleAll();
  });
});

describe("a file that is not there", () => {
  test.each([
    ["an id nobody has", "01890a5d-ac96-774b-bcce-b302099a8057"], ["no id", "nonsense"], ["an id in capitals", "01890A5D-AC96-774B-BCCE-B302099A8057"], ["an id of another version", "01890a5d-ac96-474b-bcce-b302099a8057"],
    ["an id without dashes", "01890a5dac96774bbcceb302099a8057"], ["an id in braces", "%7B01890a5d-ac96-774b-bcce-b302099a8057%7D"], ["an id with something behind it", "01890a5d-ac96-774b-bcce-b302099a8057%00"],
    ["SQL", "'%20or%201=1--"], ["a path", "..%2F..%2Fetc%2Fpasswd"], ["10 KB", "a".repeat(10_000)], ["__proto__", "__proto__"],
  ])("is answered 404, bytes and status alike: %s", async (_what, id) => {
    for (const path of [`/api/files/${id}`, `/api/files/${id}/status`]) {
      expectRefusal(await ask(world.url, `GET ${path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n`), "FILE_NOT_FOUND");
      expectRefusal(await ask(world.url, `GET ${path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n`), "FILE_NOT_FOUND");
    }
  });

  test("is answered 404, also in another spelling of an id that is there", async () => {
    const { file_id } = (await (await world.put("a.txt", "here")).json()) as { file_id: string };
    expectRefusal(await ask(world.url, `GET /api/files/${file_id.toUpperCase()} HTTP/1.1\r\nHost: x\r\n\r\n`), "FILE_NOT_FOUND");
    expect((await ask(world.url, `GET /api/files/${file_id} HTTP/1.1\r\nHost: x\r\n\r\n`)).text).toBe("here");
    await world.settleAll();
  });

  test("is answered without a word about a file when its bytes are lost", async () => {
    const { file_id } = (await (await world.put("lost.bin", pattern(5_000))).json()) as { file_id: string };
    await world.settleAll();
    const [row] = await world.sql<{ storage_key: string }>("select storage_key from files where id = $1", [file_id]);
    await world.context.storage.remove([row!.storage_key]);
    const answer = await ask(world.url, `GET /api/files/${file_id} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n`);
    expectRefusal(answer, "FILE_DAMAGED");
    for (const name of ["content-disposition", "etag", "last-modified", "content-range"]) expect(answer.headers).not.toHaveProperty(name);
  });
});
