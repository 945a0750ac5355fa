import { readdir, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createDeadLetters } from "../../src/uploads/dead-letters/dead-letters.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const OWNER = "00000000-0000-8000-8000-000000000000";
const OTHER = "11111111-1111-8111-8111-111111111111";
const large = Buffer.alloc(100_000, "large ");
const { api, statusOf, letters, refuse, allow, makeDead, nothingLeft } = deadLettersIn(() => world);

/** The only large file of the inbox, on its disk. */
async function atBlobFile(spoil: (path: string) => Promise<void>): Promise<void> {
  const folder = join(world.config.INBOX_DIR, "files");
  const [entry] = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((found) => found.isFile());
  await spoil(join(entry!.parentPath, entry!.name));
}

describe("the list", () => {
  test("says all that is known of a dead letter", async () => {
    const [id] = await makeDead(1, "bytes", { "X-Uploader-Id": "station-7" });
    const response = await api("");
    expect([response.status, response.headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(await response.json()).toEqual({
      dead_letters: [{
        id, file_name: "bad-0.bin", size: 5, sha256: "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9", uploader_id: "station-7",
        code: "SETTLE_FAILED", reason: expect.stringContaining("refused"), attempts: 3,
        first_failed_at: expect.any(String), failed_at: expect.any(String), retriable: true, url: `/api/files/${id}`, status_url: `/api/files/${id}/status`,
      }],
      next_cursor: null,
    });
    expect((await api("", "HEAD")).status).toBe(200);
  });

  test("is paged newest first, and neither shifts nor repeats when letters share their time or come meanwhile", async () => {
    const many = await makeDead(7);
    await world.sql("update dead_letters set failed_at = '2026-01-01T00:00:00.123457Z' where upload_id = any($1)", [many.slice(0, 5)]);
    await world.sql("update dead_letters set failed_at = '2026-01-01T00:00:00.123456Z' where upload_id = $1", [many[5]]);
    const newestFirst = [many[6], ...many.slice(0, 5).sort(), many[5]];
    const seen: string[] = [];
    let cursor: string | null = "";
    for (let pages = 0; cursor !== null && pages < 10; pages++) {
      const page: { dead_letters: { id: string }[]; next_cursor: string | null } = await (await api(`?limit=2${cursor && `&cursor=${cursor}`}`)).json();
      seen.push(...page.dead_letters.map(({ id }) => id));
      cursor = page.next_cursor;
      if (pages === 0) await world.sql("insert into dead_letters (upload_id, attempts, code, reason, first_failed_at) values ('01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2', 3, 'X', 'x', now())");
    }
    expect(seen).toEqual(newestFirst);
  });

  test("describes an upload that the inbox has lost by what the stream says of it, and says that it cannot be retried", async () => {
    const { file_id: id, sha256 } = await (await world.put("lost.bin", large)).json();
    await world.context.inbox.store.remove([`manifests/${id}`]);
    await world.settleAll();
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, file_name: "lost.bin", size: 100_000, sha256, code: "INBOX_ENTRY_MISSING", retriable: false }]);
    expect(await world.sql("select owner_id from dead_letters")).toEqual([{ owner_id: OWNER }]);
  });

  test.each([
    ["none of ours", (id: string) => `{"upload_id":"${id}"}`],
    ["another upload's", () => '{"upload_id":"01a1f8a3-a4f8-7636-a6e0-000000000000"}'],
    ["no JSON", () => "\u0000{"],
    ["of the year 0", () => '{"event_time":"0000-01-01T00:00:00Z"}'],
  ])("knows nothing of an upload whose entry in the stream is %s", async (_what, body) => {
    const id = "01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2";
    const text = body(id);
    const whole = { upload_id: id, owner_id: OWNER, filename: "x", size_bytes: 1, sha256: "a".repeat(64), content_type: "a/b", uploader_id: null, event_time: "2026-01-01T00:00:00Z", blob_key: null };
    const entry = /^\{.*(another|0000)/.test(text) || text.includes("000000000000") ? JSON.stringify({ ...whole, ...JSON.parse(text) }) : text;
    await world.redis.xadd(world.stream, "*", "key", id, "body", entry);
    await world.settleAll();
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, file_name: null, size: null, sha256: null, uploader_id: null, retriable: false }]);
    expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    await nothingLeft();
    expect(await world.ledger()).toBe(0);
  });

  test("takes whatever text was in an upload, such as what looks like an escaped NUL", async () => {
    await refuse();
    await world.put("bad.bin", "x", { "X-Uploader-Id": "a\\u0000b" });
    const id = "01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2";
    const manifest = { upload_id: id, owner_id: OWNER, filename: "\0\ud800 \\u0000", size_bytes: 1, sha256: "a".repeat(64), content_type: "a/b", uploader_id: "\udc00", event_time: "2026-01-01T00:00:00Z", blob_key: null };
    await world.redis.xadd(world.stream, "*", "key", id, "body", JSON.stringify(manifest));
    await world.settleAll();
    const { dead_letters } = await (await api("")).json();
    expect(dead_letters.map(({ uploader_id }: { uploader_id: string }) => uploader_id).sort()).toEqual(["a\\u0000b", "\ufffd"]);
  });
});

describe("a retry", () => {
  test.each([["small", "bytes"], ["large", large]])("of a %s upload gives it a clean slate, and it is stored once what was wrong is mended", async (_size, bytes) => {
    const [id] = await makeDead(1, bytes);
    await world.sql("insert into settle_attempts (upload_id, attempts, code, reason) values ($1, 2, 'X', 'a stale delivery')", [id]);
    const response = await api(`/${id}/retry`, "POST");
    expect(response.status).toBe(202);
    expect(await response.json()).toEqual({ id, status: "accepted", stream_id: expect.stringMatching(/^\d+-\d+$/), status_url: `/api/files/${id}/status` });
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
    expect(await statusOf(id!)).toMatchObject({ status: "accepted", attempts: null, reason: null });
    await world.settle(); // fails once more
    expect(await world.sql("select attempts from settle_attempts")).toEqual([{ attempts: 1 }]);
    await allow();
    await world.settleAll();
    expect(await statusOf(id!)).toMatchObject({ status: "stored" });
    expect(await world.ledger()).toBe(1);
    await nothingLeft();
  });

  test("that fails again is a dead letter again, after three attempts", async () => {
    const [id] = await makeDead();
    await api(`/${id}/retry`, "POST");
    await world.settleAll();
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, attempts: 3 }]);
  });

  test.each([
    ["its manifest", async (id: string) => world.context.inbox.store.remove([`manifests/${id}`])],
    ["its blob", async (id: string) => world.context.inbox.store.remove([(await world.context.inbox.find(id))!.manifest.blob_key!])],
    ["its blob's file, of which the index knows nothing", () => atBlobFile(rm)],
    ["the end of its blob's file", () => atBlobFile((path) => truncate(path, large.length - 1))],
    ["a part of its blob", async (id: string) => world.context.inbox.store.put((await world.context.inbox.find(id))!.manifest.blob_key!, large.subarray(1))],
    ["what its manifest said", async (id: string) => world.context.inbox.store.put(`manifests/${id}`, (await world.context.inbox.store.readWhole(`manifests/${id}`))!.slice(0, 40))],
  ])("is refused while the inbox has lost %s, and nothing changes", async (_what, lose) => {
    const [id] = await makeDead(1, large);
    await lose(id!);
    const response = await api(`/${id}/retry`, "POST");
    expect([response.status, (await response.json()).code]).toEqual([409, "DEAD_LETTER_WITHOUT_BYTES"]);
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, retriable: false }]);
    expect(await world.redis.xlen(world.stream)).toBe(0);
  });

  test("of all queues those whose bytes are there, and counts the others", async () => {
    const ids = await Promise.all(Array.from({ length: 120 }, async (_, i) => (await (await world.put(`${i}.txt`, "x")).json()).file_id as string));
    await world.redis.del(world.stream);
    await world.sql("insert into dead_letters (upload_id, owner_id, attempts, code, reason, first_failed_at) select unnest($1::uuid[]), $2, 3, 'X', 'x', now()", [ids, OWNER]);
    await world.context.inbox.store.remove([`manifests/${ids[50]}`]);
    const response = await api("/retry", "POST");
    expect([response.status, await response.json()]).toEqual([200, { retried: 119, without_bytes: 1 }]);
    await world.settleAll();
    expect(await world.ledger()).toBe(119);
    expect(await letters()).toEqual([{ upload_id: ids[50] }]);
    expect(await (await api("/retry", "POST")).json()).toEqual({ retried: 0, without_bytes: 1 });
  });
});

test("a retry while Redis is down is accepted, and the reconciler queues it", async () => {
  const proxy = await throughFaultProxy(servers.redisUrl());
  const away = await openWorld({ REDIS_URL: proxy.url });
  try {
    await away.sql("alter table files add constraint refused check (name not like 'bad%')");
    const { file_id: id } = await (await away.put("bad.txt", "bytes")).json();
    await away.settleAll();
    await away.sql("alter table files drop constraint refused");
    proxy.set({ down: true });
    const response = await fetch(`${away.url}/api/dead-letters/${id}/retry`, { method: "POST" });
    expect([response.status, await response.json()]).toEqual([202, { id, status: "accepted", stream_id: null, status_url: `/api/files/${id}/status` }]);
    proxy.set({});
    await eventually(() => away.context.redis.ping().catch(() => "away"), "PONG");
    away.setClock(new Date(Date.now() + 60_000));
    expect(await away.reconcile()).toMatchObject({ requeued: 1 });
    await eventually(async () => { await away.settleAll().catch(() => {}); return away.ledger(); }, 1);
  } finally {
    await away.close();
    await proxy.close();
  }
});

test("another account finds none of these letters, in any way, also where only the inbox knows whose they are", async () => {
  const [mine, lost] = await makeDead(2);
  await world.sql("insert into accounts (id, name) values ($1, 'other')", [OTHER]);
  const { context } = world;
  const theirs = createDeadLetters({ db: context.db, inbox: context.inbox, enqueue: async () => null, worker: "w", log: context.log });
  await world.sql("update dead_letters set owner_id = null where upload_id = $1", [lost]);
  for (const id of [mine!, lost!]) {
    await expect(theirs.retry(OTHER, id)).rejects.toMatchObject({ code: id === mine ? "DEAD_LETTER_NOT_FOUND" : "DEAD_LETTER_WITHOUT_BYTES" });
    await expect(theirs.discard(OTHER, id)).rejects.toMatchObject({ code: "DEAD_LETTER_NOT_FOUND" });
  }
  expect(await theirs.retryAll(OTHER)).toMatchObject({ retried: 0 });
  expect((await theirs.list(OTHER, 10)).deadLetters.map(({ uploadId }) => uploadId)).toEqual([lost]);
  expect(await letters()).toHaveLength(2);
  expect(await world.context.inbox.store.list("manifests/", { limit: 10 })).toHaveLength(2);
});

test("with the inbox in a bucket a letter is retriable as long as all its bytes are there", async () => {
  await world.close();
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", INBOX: "s3" });
  const [id] = await makeDead(1, large);
  const { inbox } = world.context;
  const { blob_key: blob } = (await inbox.find(id!))!.manifest;
  const retriable = async () => (await (await api("")).json()).dead_letters[0].retriable;
  expect(await retriable()).toBe(true);
  await inbox.store.put(blob!, large.subarray(0, 10));
  expect(await retriable()).toBe(false);
  await inbox.store.remove([blob!]);
  expect(await retriable()).toBe(false);
  await inbox.store.put(blob!, large);
  expect((await api(`/${id}/retry`, "POST")).status).toBe(202);
});
