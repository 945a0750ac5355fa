import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { checksum, metadata, sha256, tusAt, TUS } from "../support/tus.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

const LIMIT_BYTES = 4_000_000;
const SMALL_BYTES = 1_000;

describe.each([["a disk", {}], ["a bucket", { INBOX: "s3" }]] as const)("resumable uploads to an inbox on %s", (_where, settings) => {
  let world: World;
  let tus: ReturnType<typeof tusAt>;
  beforeAll(async () => {
    world = await openWorld({ MAX_UPLOAD_BYTES: String(LIMIT_BYTES), SMALL_OBJECT_BYTES: String(SMALL_BYTES), ...settings });
    tus = tusAt(world.url);
  });
  afterAll(() => world.close());

  const length = (sizeBytes: number, more: Record<string, string> = {}) => ({ "Upload-Length": String(sizeBytes), ...more });
  const named = (name: string) => ({ "Upload-Metadata": metadata({ filename: name, filetype: "application/octet-stream", uploader_id: "Ada" }) });

  /** Settles, and holds the stored file against what was sent. */
  async function assertStored(location: string, bytes: Uint8Array, filename?: string): Promise<void> {
    await world.settleAll();
    const id = tus.idOf(location);
    const status = await (await fetch(`${world.url}/api/files/${id}/status`)).json();
    expect(status).toMatchObject({ status: "stored", size: bytes.length, sha256: sha256(bytes), ...(filename && { filename }) });
    const stored = Buffer.from(await (await fetch(`${world.url}/api/files/${id}`)).arrayBuffer());
    expect(stored.equals(bytes)).toBe(true);
    const rows = await world.sql("select file_id from file_events where file_id = $1", [id]);
    expect(rows).toHaveLength(1);
  }

  test("what is spoken is told by OPTIONS", async () => {
    const answer = await fetch(`${world.url}/api/uploads`, { method: "OPTIONS" });
    expect([answer.status, answer.headers.get("tus-version"), answer.headers.get("tus-resumable"), answer.headers.get("tus-max-size")])
      .toEqual([204, "1.0.0", "1.0.0", String(LIMIT_BYTES)]);
    expect(answer.headers.get("tus-extension")!.split(",").sort()).toEqual(
      ["checksum", "concatenation", "creation", "creation-defer-length", "creation-with-upload", "expiration", "termination"]);
    expect(answer.headers.get("tus-checksum-algorithm")).toBe("sha1,sha256");
  });

  test.each([["within the small", SMALL_BYTES - 1], ["larger", 300_000]])("an upload (%s) in three requests becomes one file, and its offset grows with each", async (_size, sizeBytes) => {
    const bytes = tus.bytes(sizeBytes);
    const created = await tus.create(length(sizeBytes, named("three.bin")));
    expect(created.status).toBe(201);
    expect(created.location).toMatch(/^\/api\/uploads\/[0-9a-f-]{36}$/);
    const cuts = [0, 100, 700, sizeBytes];
    for (let i = 0; i < 3; i++) {
      expect(await tus.offset(created.location)).toBe(cuts[i]);
      const patched = await tus.patch(created.location, cuts[i]!, bytes.subarray(cuts[i], cuts[i + 1]));
      expect([patched.status, patched.headers.get("upload-offset")]).toEqual([204, String(cuts[i + 1])]);
      expect(patched.headers.get("upload-expires") !== null).toBe(i < 2);
    }
    const head = await tus.head(created.location);
    expect([head.status, head.headers.get("upload-offset"), head.headers.get("upload-length"), head.headers.get("cache-control")])
      .toEqual([200, String(sizeBytes), String(sizeBytes), "no-store"]);
    expect(head.headers.get("upload-metadata")).toBe(named("three.bin")["Upload-Metadata"]);
    await assertStored(created.location, bytes, "three.bin");
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("one request brings all of it: nothing is copied, and nothing is left in the inbox", async () => {
    const bytes = tus.bytes(50_000);
    const { location } = await tus.create(length(50_000, named("one.bin")));
    await tus.patch(location, 0, bytes);
    await assertStored(location, bytes, "one.bin");
    expect(await inboxKeys(world)).toEqual([]);
    expect(await tus.offset(location)).toBe(50_000);
  });

  test.each([["small", 10], ["large", 50_000]])("a %s upload may come with its creation", async (_size, sizeBytes) => {
    const bytes = tus.bytes(sizeBytes);
    const created = await tus.create(length(sizeBytes, named("with.bin")), bytes);
    expect([created.status, created.headers.get("upload-offset"), created.headers.get("upload-expires")]).toEqual([201, String(sizeBytes), null]);
    expect(await tus.offset(created.location)).toBe(sizeBytes);
    expect((await tus.head(created.location)).headers.get("upload-metadata")).toBe(named("with.bin")["Upload-Metadata"]);
    await assertStored(created.location, bytes, "with.bin");
  });

  test("its beginning may come with its creation, and the rest later", async () => {
    const bytes = tus.bytes(2_000);
    const created = await tus.create(length(2_000), bytes.subarray(0, 500));
    expect([created.status, created.headers.get("upload-offset")]).toEqual([201, "500"]);
    expect((await tus.patch(created.location, 500, bytes.subarray(500))).status).toBe(204);
    await assertStored(created.location, bytes, `upload-${tus.idOf(created.location)}`);
  });

  test("how long it is may be said later", async () => {
    const bytes = tus.bytes(3_000);
    const { location } = await tus.create({ "Upload-Defer-Length": "1" });
    await tus.patch(location, 0, bytes.subarray(0, 1_000));
    const head = await tus.head(location);
    expect([head.headers.get("upload-defer-length"), head.headers.get("upload-length"), head.headers.get("upload-offset")]).toEqual(["1", null, "1000"]);
    expect((await tus.patch(location, 1_000, bytes.subarray(1_000), length(3_000))).status).toBe(204);
    await assertStored(location, bytes);
    const other = await tus.create({ "Upload-Defer-Length": "1" });
    await tus.patch(other.location, 0, bytes);
    expect((await tus.patch(other.location, 3_000, new Uint8Array(), length(2_999))).status).toBe(400);
    expect((await tus.patch(other.location, 3_000, new Uint8Array(), length(LIMIT_BYTES + 1))).status).toBe(413);
    expect((await tus.patch(other.location, 3_000, new Uint8Array(), length(3_000))).status).toBe(204);
    expect((await tus.patch(other.location, 3_000, new Uint8Array(), length(3_001))).status).toBe(400);
    await assertStored(other.location, bytes);
  });

  test.each(["sha1", "sha256"])("bytes with a wrong %s are refused with 460 and leave nothing, with the right one they stay", async (algorithm) => {
    const bytes = tus.bytes(5_000);
    const { location } = await tus.create(length(5_000));
    const wrong = await tus.patch(location, 0, bytes.subarray(0, 2_000), { "Upload-Checksum": checksum(algorithm, bytes.subarray(1)) });
    expect([wrong.status, (await wrong.json()).code]).toEqual([460, "CHECKSUM_MISMATCH"]);
    expect(await tus.offset(location)).toBe(0);
    const part = bytes.subarray(0, 2_000);
    expect((await tus.patch(location, 0, part, { "Upload-Checksum": checksum(algorithm, part) })).status).toBe(204);
    expect((await tus.patch(location, 2_000, bytes.subarray(2_000), { "Upload-Checksum": checksum(algorithm, bytes.subarray(2_000)) })).status).toBe(204);
    await assertStored(location, bytes);
    const refused = await tus.create(length(10, { "Upload-Checksum": checksum(algorithm, bytes) }), bytes.subarray(0, 10));
    expect(refused.status).toBe(460);
  });

  test("parts become one file in the order they are named, and asking again gives the same one", async () => {
    const bytes = tus.bytes(9_000);
    const parts = await Promise.all([[0, 4_000], [4_000, 8_500], [8_500, 9_000]].map(async ([from, to]) => {
      const { location } = await tus.create(length(to! - from!, { "Upload-Concat": "partial" }));
      const halfway = from! + 200;
      await tus.patch(location, 0, bytes.subarray(from, halfway));
      const early = await tus.create({ "Upload-Concat": `final;${location}` });
      expect([early.status, (await early.json()).code]).toEqual([409, "PART_INCOMPLETE"]);
      await tus.patch(location, 200, bytes.subarray(halfway, to));
      return location;
    }));
    expect((await tus.head(parts[0]!)).headers.get("upload-concat")).toBe("partial");
    const concat = { "Upload-Concat": `final;${parts.map((part) => world.url + part).join(" ")}`, ...named("whole.bin") };
    const final = await tus.create(concat);
    expect(final.status).toBe(201);
    const head = await tus.head(final.location);
    expect([head.headers.get("upload-offset"), head.headers.get("upload-length"), head.headers.get("upload-concat")]).toEqual(["9000", "9000", `final;${parts.join(" ")}`]);
    expect((await tus.create(concat)).location).toBe(final.location);
    expect((await tus.patch(final.location, 9_000, new Uint8Array())).status).toBe(403);
    expect(await Promise.all(parts.map(tus.offset))).toEqual([4_000, 4_500, 500]); // a client whose answer was lost begins with these
    expect((await tus.create({ "Upload-Concat": `final;${parts[0]}` })).status).toBe(404);
    await assertStored(final.location, bytes, "whole.bin");
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("what was terminated is gone, and a complete upload is not terminated any more", async () => {
    const { location } = await tus.create(length(2_000));
    await tus.patch(location, 0, tus.bytes(1_500));
    expect((await tus.remove(location)).status).toBe(204);
    for (const answer of [await tus.head(location), await tus.patch(location, 1_500, tus.bytes(500)), await tus.remove(location)]) expect(answer.status).toBe(404);
    expect((await inboxKeys(world)).filter((key) => key.includes(tus.idOf(location)))).toEqual([]);
    const done = await tus.create(length(10), tus.bytes(10));
    expect((await tus.remove(done.location)).status).toBe(409);
    await world.settleAll();
    expect((await tus.remove(done.location)).status).toBe(409);
  });

  test("the same Idempotency-Key gives the same upload, and one file, however often it is sent", async () => {
    const bytes = tus.bytes(4_000);
    const key = { "Idempotency-Key": `tus-${_where}` };
    const first = await tus.create(length(4_000, key));
    await tus.patch(first.location, 0, bytes.subarray(0, 1_500));
    const again = await tus.create(length(4_000, key));
    expect([again.status, again.location, again.headers.get("upload-offset")]).toEqual([201, first.location, "1500"]);
    expect((await tus.create(length(4_001, key))).status).toBe(422);
    await tus.patch(first.location, 1_500, bytes.subarray(1_500));
    const whole = await tus.create(length(4_000, key), bytes);
    expect([whole.status, whole.location, whole.headers.get("upload-offset")]).toEqual([201, first.location, "4000"]);
    expect((await tus.create(length(4_000, key), tus.bytes(4_000))).status).toBe(422);
    await assertStored(first.location, bytes);
    expect((await world.put("other-door.bin", bytes, key)).status).toBe(202);
    await assertStored(first.location, bytes);
  });

  test.each([["waits", false], ["is settled", true]])("under the key of a file that %s, other bytes than another door took are refused, and nothing says that they are in", async (_what, isSettled) => {
    const key = { "Idempotency-Key": `doors-${_where}-${isSettled}` };
    const first = Buffer.from("hello!");
    expect((await world.put("a.txt", first, key)).status).toBe(202);
    if (isSettled) await world.settleAll();
    const { location } = await tus.create(length(5, key));
    const refused = await tus.patch(location, 0, Buffer.from("OTHER"));
    expect([refused.status, (await refused.json()).code]).toEqual([422, "IDEMPOTENCY_KEY_REUSED"]);
    expect((await tus.head(location)).status).toBe(404);
    const same = await tus.create(length(6, key));
    expect((await tus.patch(same.location, 0, first)).status).toBe(204);
    await assertStored(location, first, "a.txt");
    expect(await world.sql("select 1 from dead_letters")).toEqual([]);
    expect((await inboxKeys(world)).filter((name) => name.includes(tus.idOf(location)))).toEqual([]);
  });

  test("what comes whole finishes what was begun under its key, and no offset goes back", async () => {
    const key = { "Idempotency-Key": `begun-${_where}` };
    const bytes = tus.bytes(5_000);
    const { location } = await tus.create(length(5_000, key));
    await tus.patch(location, 0, bytes.subarray(0, 2_000));
    expect((await tus.create(length(4_999, key), bytes.subarray(1))).status).toBe(422);
    const whole = await tus.create(length(5_000, key), bytes);
    expect([whole.status, whole.location, await tus.offset(location)]).toEqual([201, location, 5_000]);
    expect((await tus.patch(location, 2_000, tus.bytes(3_000))).status).toBe(409);
    await assertStored(location, bytes);
  });

  test("somebody else's upload is not there", async () => {
    const { location } = await tus.create(length(500, { "Upload-Concat": "partial" }));
    await tus.patch(location, 0, tus.bytes(500));
    const { partials } = world.context;
    await partials.change((await partials.find(tus.idOf(location)))!, { owner_id: "00000000-0000-8000-8000-000000000001" });
    const answers = [await tus.head(location), await tus.patch(location, 500, new Uint8Array()), await tus.remove(location), await tus.create({ "Upload-Concat": `final;${location}` })];
    expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404]);
  });

  test("an Idempotency-Key is of one kind of upload, and of what was said at its creation", async () => {
    const key = { "Idempotency-Key": `kind-${_where}` };
    const part = await tus.create(length(500, { "Upload-Concat": "partial", ...key }));
    expect((await tus.create(length(500, key))).status).toBe(422);
    expect((await tus.create(length(500, { "Upload-Concat": "partial", ...key }))).location).toBe(part.location);
    const later = { "Upload-Defer-Length": "1", "Idempotency-Key": `later-${_where}` };
    const deferred = await tus.create(later);
    await tus.patch(deferred.location, 0, tus.bytes(10), length(500));
    const again = await tus.create(later);
    expect([again.status, again.location, again.headers.get("upload-offset")]).toEqual([201, deferred.location, "10"]);
    await tus.remove(deferred.location);
    const anew = await tus.create(later); // what was terminated is forgotten
    expect([anew.location, await tus.offset(anew.location)]).toEqual([deferred.location, 0]);
    const bytes = tus.bytes(700);
    await tus.patch(anew.location, 0, bytes, length(700));
    await assertStored(anew.location, bytes);
  });

  test("each upload is tallied once, however many requests it took", async () => {
    const before = world.site.tallied().files;
    const { location } = await tus.create(length(2_000));
    for (let at = 0; at < 2_000; at += 500) await tus.patch(location, at, tus.bytes(500));
    await tus.create(length(10), tus.bytes(10));
    expect(world.site.tallied().files).toBe(before + 2);
  });

  test.each([
    ["no version", "POST", { "Tus-Resumable": "" }, 412, "UNSUPPORTED_TUS_VERSION"],
    ["another version", "POST", { "Tus-Resumable": "0.2.2" }, 412, "UNSUPPORTED_TUS_VERSION"],
    ["no length", "POST", {}, 400, "MALFORMED_TUS_HEADER"],
    ["a length that is no number", "POST", { "Upload-Length": "12x" }, 400, "MALFORMED_TUS_HEADER"],
    ["a negative length", "POST", { "Upload-Length": "-1" }, 400, "MALFORMED_TUS_HEADER"],
    ["a length beyond all numbers", "POST", { "Upload-Length": "9".repeat(40) }, 400, "MALFORMED_TUS_HEADER"],
    ["both a length and none", "POST", { "Upload-Length": "1", "Upload-Defer-Length": "1" }, 400, "MALFORMED_TUS_HEADER"],
    ["another defer-length", "POST", { "Upload-Defer-Length": "2" }, 400, "MALFORMED_TUS_HEADER"],
    ["no bytes at all", "POST", { "Upload-Length": "0" }, 400, "EMPTY_FILE"],
    ["more than the limit", "POST", { "Upload-Length": String(LIMIT_BYTES + 1) }, 413, "FILE_TOO_LARGE"],
    ["metadata that is no base64", "POST", { "Upload-Length": "1", "Upload-Metadata": "filename !!!" }, 400, "MALFORMED_TUS_HEADER"],
    ["metadata with a key twice", "POST", { "Upload-Length": "1", "Upload-Metadata": "a YQ==,a YQ==" }, 400, "MALFORMED_TUS_HEADER"],
    ["a name that is no UTF-8", "POST", { "Upload-Length": "1", "Upload-Metadata": "filename /w==" }, 400, "MALFORMED_TUS_HEADER"],
    ["a name that leads upwards", "POST", { "Upload-Length": "1", "Upload-Metadata": metadata({ filename: ".." }) }, 400, "INVALID_FILE_NAME"],
    ["a sender of 129 characters", "POST", { "Upload-Length": "1", "Upload-Metadata": metadata({ uploader_id: "x".repeat(129) }) }, 400, "INVALID_UPLOADER_ID"],
    ["a concat nobody knows", "POST", { "Upload-Length": "1", "Upload-Concat": "whole" }, 400, "MALFORMED_TUS_HEADER"],
    ["a final upload of what is no upload", "POST", { "Upload-Concat": "final;/api/uploads/x" }, 400, "MALFORMED_TUS_HEADER"],
    ["a final upload of what is not there", "POST", { "Upload-Concat": "final;/api/uploads/00000000-0000-8000-8000-000000000000" }, 404, "UPLOAD_NOT_FOUND"],
    ["a final upload that names a part twice", "POST", { "Upload-Concat": `final;${Array(2).fill("/api/uploads/00000000-0000-8000-8000-000000000000").join(" ")}` }, 400, "MALFORMED_TUS_HEADER"],
    ["a final upload with a length", "POST", { "Upload-Length": "1", "Upload-Concat": "final;/api/uploads/00000000-0000-8000-8000-000000000000" }, 400, "MALFORMED_TUS_HEADER"],
    ["a checksum of an algorithm nobody knows", "POST", { "Upload-Length": "1", "Upload-Checksum": "md5 CY9rzUYh03PK3k6DJie09g==" }, 400, "MALFORMED_TUS_HEADER"],
    ["a checksum of the wrong length", "POST", { "Upload-Length": "1", "Upload-Checksum": "sha1 CY9rzUYh03PK3k6DJie09g==" }, 400, "MALFORMED_TUS_HEADER"],
    ["a method nobody knows", "PUT", {}, 405, "METHOD_NOT_ALLOWED"],
  ])("%s is refused in words", async (_what, method, headers, status, code) => {
    const answer = await fetch(`${world.url}/api/uploads`, { method, headers: { ...TUS, ...headers } });
    expect([answer.status, (await answer.json()).code, answer.headers.get("tus-resumable")]).toEqual([status, code, "1.0.0"]);
    if (status === 412) expect(answer.headers.get("tus-version")).toBe("1.0.0");
  });

  test("bytes at a wrong offset, of a wrong type or too many of them are refused, and change nothing", async () => {
    const { location } = await tus.create(length(1_500));
    await tus.patch(location, 0, tus.bytes(500));
    const answers = [
      await tus.patch(location, 0, tus.bytes(10)), await tus.patch(location, 501, tus.bytes(10)), await tus.patch(location, 500, tus.bytes(1_001)),
      await tus.patch(location, 500, tus.bytes(10), { "Content-Type": "application/octet-stream" }),
      await tus.patch(location, 500, tus.bytes(10), { "Upload-Offset": "x" }), await fetch(world.url + location, { method: "PATCH", headers: TUS, body: "x" }),
      await fetch(world.url + location, { method: "GET", headers: TUS }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([409, 409, 413, 415, 400, 400, 405]);
    expect(await tus.offset(location)).toBe(500);
    const late = await new Promise<number | undefined>((resolve, reject) => { // more than announced, of which no length is said
      const sending = request(world.url + location, { method: "PATCH", headers: { ...TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "500" } }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      }).on("error", reject);
      sending.end(tus.bytes(1_001));
    });
    expect(late).toBe(413);
    expect(await tus.offset(location)).toBe(500);
    const summed = await new Promise<number | undefined>((resolve, reject) => { // and with a checksum that is right
      const bytes = tus.bytes(1_001);
      const headers = { ...TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "500", "Upload-Checksum": checksum("sha1", bytes) };
      request(world.url + location, { method: "PATCH", headers }, (answer) => resolve(answer.resume().statusCode)).on("error", reject).end(bytes);
    });
    expect(summed).toBe(413);
    for (const odd of ["00000000-0000-8000-8000-000000000000", "x", "..%2f..", "a".repeat(2_000)]) expect((await tus.head(`/api/uploads/${odd}`)).status).toBe(404);
  });

  test("of many requests at one offset one is taken, and the others are told", async () => {
    const bytes = tus.bytes(2_000);
    const { location } = await tus.create(length(2_000));
    const answers = await Promise.all(Array.from({ length: 8 }, () => tus.patch(location, 0, bytes)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses[0]).toBe(204);
    for (const status of statuses.slice(1)) expect([409, 423]).toContain(status);
    await assertStored(location, bytes);
  });

  test("a proxy that knows no PATCH is passed by saying the method in a header", async () => {
    const { location } = await tus.create(length(4));
    const answer = await fetch(world.url + location, {
      method: "POST", headers: { ...TUS, "X-HTTP-Method-Override": "PATCH", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0" }, body: "data",
    });
    expect(answer.status).toBe(204);
    await assertStored(location, Buffer.from("data"));
    const asHead = await fetch(world.url + location, { method: "POST", headers: { ...TUS, "X-HTTP-Method-Override": "HEAD" } });
    expect([asHead.status, (await asHead.json()).code]).toEqual([405, "METHOD_NOT_ALLOWED"]); // as a POST, body and all
  });
});
