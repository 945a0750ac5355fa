import { afterAll, beforeAll, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createAccept } from "../../src/uploads/accept.ts";
import { createDeadLetters } from "../../src/uploads/dead-letters/dead-letters.ts";
import { createEnqueue } from "../../src/uploads/enqueue.ts";
import { createTally } from "../../src/uploads/audit/tally.ts";
import { createFinish } from "../../src/uploads/resumable/resumable-finish.ts";
import type { Manifest } from "../../src/uploads/messages.ts";
import { createResumableExpiry } from "../../src/uploads/resumable/resumable-expiry.ts";
import { fetch } from "../support/fetch.ts";
import { metadata, sha256, tusAt } from "../support/tus.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
let tus: ReturnType<typeof tusAt>;
beforeAll(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1000", RESUMABLE_EXPIRY_SECONDS: "86400" });
  tus = tusAt(world.url);
});
afterAll(() => world.close());

const keysOf = async (location: string) => (await inboxKeys(world)).filter((key) => key.includes(tus.idOf(location)));

async function begun(sizeBytes: number, headers: Record<string, string> = {}): Promise<string> {
  const { location } = await tus.create({ "Upload-Length": String(sizeBytes), ...headers });
  return location;
}

async function assertOneFile(location: string, bytes: Uint8Array): Promise<void> {
  await world.settleAll();
  await world.reconcile();
  expect(await world.sql("select encode(sha256, 'hex') as sha256 from file_events where file_id = $1", [tus.idOf(location)])).toEqual([{ sha256: sha256(bytes) }]);
  const stored = Buffer.from(await (await fetch(`${world.url}/api/files/${tus.idOf(location)}`)).arrayBuffer());
  expect(stored.equals(bytes)).toBe(true);
}

/**
 * The record of the upload cannot be changed any more once it is accepted, as if the process had died there.
 * @param after  so many records, such as those of its first parts, are changed before
 */
async function dieBeforeFinished(work: () => Promise<unknown>, { after = 0 } = {}): Promise<void> {
  const { partials } = world.context;
  const { change } = partials;
  let finished = 0;
  partials.change = async (partial, changes) => {
    if (changes.state === "finished" && finished++ >= after) throw new Unavailable("inbox", { cause: new Error("died here") });
    return change(partial, changes);
  };
  await work().finally(() => (partials.change = change));
}

test.each([["of one piece", [0, 50_000]], ["of several pieces", [0, 20_000, 50_000]], ["small", [0, 400, 900]]])("an upload (%s) whose process died right after its promise is one file, whenever the client asks again", async (_what, cuts) => {
  const bytes = tus.bytes(cuts.at(-1)!);
  const location = await begun(bytes.length);
  for (const [i, from] of cuts.slice(0, -2).entries()) await tus.patch(location, from, bytes.subarray(from, cuts[i + 1]));
  const from = cuts.at(-2)!;
  await dieBeforeFinished(async () => expect((await tus.patch(location, from, bytes.subarray(from))).status).toBe(503));
  const again = await tus.head(location);
  expect([again.status, again.headers.get("upload-offset")]).toEqual([200, String(bytes.length)]);
  await assertOneFile(location, bytes);

  const late = await begun(bytes.length);
  await dieBeforeFinished(async () => expect((await tus.patch(late, 0, bytes)).status).toBe(503));
  await assertOneFile(late, bytes); // settled, and its pieces gone, before the client asks
  expect(await tus.offset(late)).toBe(bytes.length);
  expect((await tus.remove(late)).status).toBe(409);
  await assertOneFile(late, bytes);
  expect(await world.context.db.query("select 1 from dead_letters")).toMatchObject({ rowCount: 0 });
  await world.settleAll();
  await world.reconcile();
  expect([await keysOf(location), await keysOf(late)]).toEqual([[], []]);
});

test.each([
  ["more is small", { smallObjectBytes: 100_000, allowedTypes: [] }], ["fewer types are accepted", { smallObjectBytes: 1_000, allowedTypes: ["image/png"] }],
])("an upload whose process died right after its promise keeps its bytes where, after the restart, %s", async (_what, settings) => {
  const { partials, inbox, clock, log, db, requestDb, redis, stream, name } = world.context;
  const bytes = tus.bytes(50_000);
  const location = await begun(bytes.length);
  await dieBeforeFinished(async () => expect((await tus.patch(location, 0, bytes)).status).toBe(503));
  const enqueue = createEnqueue({ redis, stream, log });
  const accept = createAccept({
    db: requestDb, inbox, deadLetters: createDeadLetters({ db: requestDb, inbox, enqueue, worker: name, log }), enqueue, redis, stream, secret: world.config.SECRET_KEY, acceptedBy: name,
    tally: createTally({ store: inbox.store, name: "restarted", log }), clock,
  });
  const { finish } = createFinish({ inbox, partials, accept, clock, ...settings });
  await finish((await partials.find(tus.idOf(location)))!, undefined, () => {});
  expect(await tus.offset(location)).toBe(bytes.length);
  await assertOneFile(location, bytes);
  expect(await db.query("select 1 from dead_letters")).toMatchObject({ rowCount: 0 });
  expect(await keysOf(location)).toEqual([]);
});

test("an upload that another process begins to finish is not terminated any more, however late that is seen", async () => {
  const bytes = tus.bytes(5_000);
  const location = await begun(bytes.length);
  await tus.patch(location, 0, bytes.subarray(0, 4_000));
  const { partials } = world.context;
  const { change } = partials;
  partials.change = async (partial, changes) => {
    await change(partial, { state: "closing", claim: "another process" }); // after it was read here
    return change(partial, changes);
  };
  const refused = await tus.remove(location);
  partials.change = change;
  expect([refused.status, (await refused.json()).code]).toEqual([409, "UPLOAD_COMPLETE"]);
  expect(await keysOf(location)).toHaveLength(2);
});

test("a final upload of one part is a file, too", async () => {
  const bytes = tus.bytes(50_000);
  const part = await begun(bytes.length, { "Upload-Concat": "partial" });
  await tus.patch(part, 0, bytes);
  const finals = await Promise.all(["a", "b"].map((key) => tus.create({ "Upload-Concat": `final;${part}`, "Idempotency-Key": `one-part-${key}` })));
  const made = finals.filter(({ status }) => status === 201);
  expect(made.length).toBeGreaterThanOrEqual(1);
  for (const final of made) await assertOneFile(final.location, bytes);
  expect(await keysOf(part)).toEqual([]);
});

test.each([0, 1, 2])("a final upload whose process died when %i of its parts were done leaves nothing of any, though theirs was swept before the client asked again", async (after) => {
  const bytes = tus.bytes(90_000);
  const parts: string[] = [];
  for (let from = 0; from < bytes.length; from += 30_000) {
    parts.push(await begun(30_000, { "Upload-Concat": "partial" }));
    await tus.patch(parts.at(-1)!, 0, bytes.subarray(from, from + 30_000));
  }
  const concat = { "Upload-Concat": `final;${parts.join(" ")}` };
  await dieBeforeFinished(async () => expect((await tus.create(concat)).status).toBe(503), { after });
  const { store } = world.context.inbox;
  for (const part of parts.slice(0, after)) await store.remove((await keysOf(part)).filter((key) => key.startsWith("blobs/"))); // as the sweeper does
  const again = await tus.create(concat);
  expect(again.status).toBe(201);
  await assertOneFile(again.location, bytes);
  for (const part of parts) {
    expect(await keysOf(part)).toEqual([]);
    expect((await world.context.partials.find(tus.idOf(part)))?.state).toBe("finished");
  }
});

test("what of an upload cannot be read any more is said to be damaged, and nothing comes of it", async () => {
  const location = await begun(5_000);
  await world.context.inbox.store.put(`partials/${tus.idOf(location)}`, Buffer.from("rotten rotten"));
  const refused = await tus.patch(location, 0, tus.bytes(10));
  expect([refused.status, (await refused.json()).code]).toEqual([502, "FILE_DAMAGED"]);
  for (const answer of [await tus.head(location), await tus.remove(location)]) expect(answer.status).toBe(502);
});

test("what is complete and not promised yet is not called complete: it is promised when somebody asks", async () => {
  const bytes = tus.bytes(5_000);
  const location = await begun(bytes.length);
  const { inbox } = world.context;
  const { commit } = inbox;
  inbox.commit = async () => { throw new Unavailable("inbox"); };
  expect((await tus.patch(location, 0, bytes)).status).toBe(503);
  const head = await tus.head(location);
  expect([head.status, head.headers.get("upload-offset"), head.headers.get("retry-after")]).toEqual([423, null, "5"]);
  inbox.commit = commit;
  expect(await tus.offset(location)).toBe(bytes.length);
  await assertOneFile(location, bytes);
});

test("bytes that rot between two requests are not promised: the client is told, and begins anew", async () => {
  const bytes = tus.bytes(9_000);
  const location = await begun(bytes.length);
  await tus.patch(location, 0, bytes.subarray(0, 900)); // so small that the index has it
  const [piece] = await keysOf(location);
  const rotten = Buffer.from(bytes.subarray(0, 900));
  rotten[7]! ^= 1;
  await world.context.inbox.store.put(piece!, rotten);
  const last = await tus.patch(location, 900, bytes.subarray(900));
  expect([last.status, (await last.json()).code]).toEqual([502, "FILE_DAMAGED"]);
  expect((await tus.head(location)).status).toBe(404);
  expect(await keysOf(location)).toEqual([]);
});

test("types that are not accepted are refused at the first bytes, and nothing is left", async () => {
  const strict = await openWorld({ ALLOWED_TYPES: "image/png,text/plain", SMALL_OBJECT_BYTES: "1000" });
  const there = tusAt(strict.url);
  const { location } = await there.create({ "Upload-Length": "50000", "Upload-Metadata": metadata({ filename: "a.png", filetype: "image/png" }) });
  const refused = await there.patch(location, 0, there.bytes(20_000));
  expect([refused.status, (await refused.json()).code]).toEqual([415, "FILE_TYPE_NOT_ALLOWED"]);
  expect(await there.offset(location)).toBe(0);
  const text = Buffer.from("all is well. ".repeat(4_000)).subarray(0, 50_000);
  const { location: fine } = await there.create({ "Upload-Length": "50000", "Upload-Metadata": metadata({ filename: "a.txt", filetype: "text/plain" }) });
  for (const from of [0, 10, 20_000]) expect((await there.patch(fine, from, text.subarray(from, from === 0 ? 10 : from === 10 ? 20_000 : undefined))).status).toBe(204);
  const { location: tiny } = await there.create({ "Upload-Length": "40", "Upload-Metadata": metadata({ filename: "a.png", filetype: "image/png" }) });
  await there.patch(tiny, 0, there.bytes(20));
  expect((await there.patch(tiny, 20, there.bytes(20))).status).toBe(415);
  expect((await there.head(tiny)).status).toBe(404);
  await strict.close();
});

test("an upload is kept as long as something comes, and ends when nothing has for long enough; one that is promised does not", async () => {
  const HOUR_MS = 3_600_000;
  const { partials } = world.context;
  let now = Date.now();
  const log = { info() {} } as never;
  const expire = (hours: number) => {
    now = Date.now() + hours * HOUR_MS;
    return createResumableExpiry({ partials, expiryMs: 24 * HOUR_MS, clock: { now: () => new Date(now) }, log }).runOnce();
  };
  await expire(1_000); // what other tests left
  const location = await begun(2_000);
  const patched = await tus.patch(location, 0, tus.bytes(1_500));
  expect(Date.parse(patched.headers.get("upload-expires")!) - Date.now()).toBeGreaterThan(23.9 * HOUR_MS);
  const promised = await begun(50_000);
  const bytes = tus.bytes(50_000);
  await tus.patch(promised, 0, bytes); // waits in the inbox, as its only piece
  const claimed = await begun(50_000);
  const { inbox } = world.context;
  const { commit } = inbox;
  inbox.commit = async () => { throw new Unavailable("inbox"); };
  await tus.patch(claimed, 0, bytes);
  inbox.commit = commit;

  await world.context.inbox.store.put("partials/unreadable", Buffer.from("rotten"));
  expect(await expire(25.9)).toBe(0);
  expect(await tus.offset(location)).toBe(1_500);
  expect(await expire(26.1)).toBe(3);
  expect((await tus.head(location)).status).toBe(404);
  expect(await keysOf(location)).toEqual([]);
  expect(await keysOf(promised)).toHaveLength(2);
  await assertOneFile(promised, bytes);

  const blobsOf = async () => (await keysOf(claimed)).filter((key) => key.startsWith("blobs/"));
  expect(await blobsOf()).toHaveLength(1); // somebody might just have been finishing it
  world.setClock(new Date(Date.now() + 25 * HOUR_MS));
  await world.reconcile();
  world.setClock(undefined);
  expect(await blobsOf()).toEqual([]);
  await expire(100);
  expect(await keysOf(claimed)).toEqual([]);
  expect(await world.context.inbox.store.list("partials/", { limit: 10 })).toEqual([]);
});

test("the sweeper leaves the pieces of an upload alone that has been under way for days", async () => {
  const bytes = tus.bytes(9_000);
  const location = await begun(bytes.length);
  await tus.patch(location, 0, bytes.subarray(0, 5_000));
  await world.context.inbox.store.put("blobs/orphan-1", bytes);
  world.setClock(new Date(Date.now() + 72 * 3_600_000));
  await world.reconcile();
  world.setClock(undefined);
  expect((await inboxKeys(world)).includes("blobs/orphan-1")).toBe(false);
  expect((await tus.patch(location, 5_000, bytes.subarray(5_000))).status).toBe(204);
  await assertOneFile(location, bytes);
});

test("an upload that comes in ten thousand pieces is told to send larger ones", async () => {
  const location = await begun(20_000);
  const { partials } = world.context;
  const partial = (await partials.find(tus.idOf(location)))!;
  for (let at = 0; at < 10_000; at += 500) {
    await Promise.all(Array.from({ length: 500 }, (_, i) => partials.addPiece(partial, at + i, `blobs/${at + i}`, 1)));
  }
  expect(await tus.offset(location)).toBe(10_000);
  const refused = await tus.patch(location, 10_000, tus.bytes(1));
  expect([refused.status, (await refused.json()).code]).toEqual([413, "TOO_MANY_PIECES"]);
  expect((await tus.remove(location)).status).toBe(204);
  expect(await keysOf(location)).toEqual([]);
});

test("pieces count as bytes that the inbox holds, not as uploads that wait", async () => {
  const before = await world.context.inbox.weigh(async () => {}, new AbortController().signal);
  const location = await begun(900_000);
  await tus.patch(location, 0, tus.bytes(500));
  await tus.patch(location, 500, tus.bytes(600_000));
  const { uploads, bytes } = await world.context.inbox.weigh(async () => {}, new AbortController().signal);
  expect(uploads).toBe(before.uploads);
  expect(bytes - before.bytes).toBeGreaterThan(600_000);
  await tus.remove(location);
});

test("of a manifest it is told who uploaded it, and its own name and type", async () => {
  const location = await begun(10, { "Upload-Metadata": metadata({ name: "../Übersicht.txt", type: "text/plain", uploader_id: "Zoë" }) });
  await tus.patch(location, 0, Buffer.from("0123456789"));
  const manifest = (await world.context.inbox.findManifest(tus.idOf(location))) as Manifest;
  expect(manifest).toMatchObject({ filename: "Übersicht.txt", content_type: "text/plain", uploader_id: "Zoë", size_bytes: 10 });
});
