import { readdir, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createDeadLetters } from "../../src/uploads/dead-letters.ts";
import { insertSettled } from "../../src/uploads/queries.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { servers } from "../support/servers.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const OWNER = "00000000-0000-8000-8000-000000000000";
const OTHER = "11111111-1111-8111-8111-111111111111";
const large = Buffer.alloc(100_000, "large ");

const api = (path: string, method = "GET", headers: Record<string, string> = {}) => fetch(`${world.url}/api/dead-letters${path}`, { method, headers });
const statusOf = async (id: string) => (await fetch(`${world.url}/api/files/${id}/status`)).json();
const letters = () => world.sql("select upload_id from dead_letters");
const refuse = () => world.sql("alter table files add constraint refused check (name not like 'bad%')");
const allow = () => world.sql("alter table files drop constraint refused");

/** Uploads that the database refuses until allow(). */
async function makeDead(count = 1, bytes: string | Uint8Array = "bytes", headers: Record<string, string> = {}): Promise<string[]> {
  await refuse();
  const ids: string[] = [];
  for (let i = 0; i < count; i++) ids.push((await (await world.put(`bad-${i}.bin`, bytes, headers)).json()).file_id);
  await world.settleAll();
  return ids;
}

/** The only large file of the inbox, on its disk. */
async function atBlobFile(spoil: (path: string) => Promise<void>): Promise<void> {
  const folder = join(world.config.INBOX_DIR, "files");
  const [entry] = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((found) => found.isFile());
  await spoil(join(entry!.parentPath, entry!.name));
}

/** Resolves when a statement waits for another one's lock. */
async function somebodyWaits(): Promise<void> {
  await expect.poll(async () => (await world.sql("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")).length).toBe(1);
}

async function nothingLeft(): Promise<void> {
  expect(await letters()).toEqual([]);
  expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
  expect(await inboxKeys(world)).toEqual([]);
  expect(await world.redis.xlen(world.stream)).toBe(0);
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
    await expect.poll(() => away.context.redis.ping().catch(() => "away")).toBe("PONG");
    away.setClock(new Date(Date.now() + 60_000));
    expect(await away.reconcile()).toMatchObject({ requeued: 1 });
    await expect.poll(async () => { await away.settleAll().catch(() => {}); return away.ledger(); }).toBe(1);
  } finally {
    await away.close();
    await proxy.close();
  }
});

describe("discarding", () => {
  test.each([["small", "bytes"], ["large", large]])("a %s upload removes it and its bytes, and the ledger and the audit's count say so", async (_size, bytes) => {
    const [id] = await makeDead(1, bytes);
    const [letter] = await world.sql<{ stream_id: string }>("update dead_letters set message = message || '{\"accepted_by\": \"web-1\"}' returning stream_id");
    const response = await api(`/${id}`, "DELETE");
    expect([response.status, await response.text()]).toEqual([204, ""]);
    expect(await world.sql("select file_id, event, file_name, size_bytes, storage_key, stream_id, reason, settle_ms, worker from file_events")).toEqual([{
      file_id: id, event: "discarded", file_name: "bad-0.bin", size_bytes: bytes.length, storage_key: "", stream_id: letter!.stream_id, settle_ms: 0,
      reason: expect.stringMatching(/^Discarded as a dead letter\. SETTLE_FAILED: .*refused/), worker: world.context.name }]);
    expect(await world.sql("select records, size_bytes from ledger_totals")).toEqual([{ records: 1, size_bytes: 0 }]);
    expect(await world.sql("select discarded_files, discarded_bytes from acceptances")).toEqual([{ discarded_files: 1, discarded_bytes: bytes.length }]);
    expect((await fetch(`${world.url}/api/files/${id}/status`)).status).toBe(404);
    await nothingLeft();
    world.setClock(new Date(Date.now() + 60_000));
    expect(await world.reconcile()).toMatchObject({ requeued: 0, removed: 0 });
  });

  test("counts for the process that accepted it, as the letter says where the inbox has lost it", async () => {
    const ids = await makeDead(3);
    await world.context.inbox.store.remove(ids.map((id) => `manifests/${id}`));
    await world.sql("update dead_letters set message = message || '{\"accepted_by\": \"web-1\"}' where upload_id = any($1)", [ids.slice(0, 2)]);
    for (const id of ids) expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    expect(await world.sql("select accepted_by, discarded_files, discarded_bytes, stored_files from acceptances order by 1")).toEqual([
      { accepted_by: expect.not.stringMatching("web-1"), discarded_files: 1, discarded_bytes: 5, stored_files: 0 }, { accepted_by: "web-1", discarded_files: 2, discarded_bytes: 10, stored_files: 0 }]);
  });

  test("that breaks off half-way leaves a letter that can be discarded again", async () => {
    const [id] = await makeDead();
    const { context } = world;
    const failing = createDeadLetters({
      inbox: context.inbox, enqueue: async () => null, worker: "w", log: context.log,
      db: { ...context.db, transaction: (work) => context.db.transaction(async (tx) => { await work(tx); throw new Unavailable("postgres"); }) },
    });
    await expect(failing.discard(OWNER, id!)).rejects.toThrow(Unavailable);
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, retriable: false }]);
    expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    expect(await world.sql("select event, size_bytes from file_events")).toEqual([{ event: "discarded", size_bytes: 5 }]);
  });

  test("ends the upload for a worker that still has it in hand, and for an entry of the stream that comes again", async () => {
    const [id] = await makeDead();
    await allow();
    const { context } = world;
    const body = JSON.stringify((await context.inbox.find(id!))!.manifest);
    // It read the record before, and writes its rows afterwards.
    const storage: typeof context.storage = { ...context.storage, put: async (...put) => { await api(`/${id}`, "DELETE"); return context.storage.put(...put); } };
    const settle = createSettle({ db: context.db, inbox: context.inbox, storage, worker: "slow", log: context.log });
    expect(await settle([{ id: "1-1", key: id!, body }])).toEqual(new Set());
    expect(await world.settle()).toBe(0);
    await world.redis.xadd(world.stream, "*", "key", id!, "body", body);
    expect([await world.settle(), await world.redis.xlen(world.stream)]).toEqual([1, 0]); // at once, without an attempt
    expect(await world.sql("select event from file_events")).toEqual([{ event: "discarded" }]);
    expect(await world.sql("select id from files")).toEqual([]);
    await nothingLeft();
  });

  test("and a worker that writes the upload's rows in the same moment: the letter is discarded, and no file comes of it", async () => {
    const [id] = await makeDead();
    await allow();
    const { context } = world;
    const find = context.inbox.find.bind(context.inbox);
    let settled: Promise<Set<string>> | undefined;
    // The discard holds the letter when it looks into the inbox; now the worker comes with what it read before.
    context.inbox.find = async (...args) => {
      context.inbox.find = find;
      const { manifest: { blob_key: _, ...manifest } } = (await find(id!))!;
      settled = insertSettled(context.db, [{ ...manifest, storage_key: "k", stream_id: null }], "slow");
      await somebodyWaits();
      return find(...args);
    };
    expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    expect(await settled).toEqual(new Set());
    expect(await world.sql("select event from file_events")).toEqual([{ event: "discarded" }]);
    expect(await world.sql("select id from files")).toEqual([]);
  });

  test("does not touch what is handed in under the same Idempotency-Key later", async () => {
    const headers = { "Idempotency-Key": "once-more" };
    const [id] = await makeDead(1, "bytes", headers);
    expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    await allow();
    expect(await (await world.put("bad-0.bin", "bytes", headers)).json()).toMatchObject({ file_id: id });
    await world.settleAll();
    expect(await statusOf(id!)).toMatchObject({ status: "stored" });
    await nothingLeft();
  });
});

describe("a retry and a discard at once", () => {
  test("end in one of the two, never in a lost upload", async () => {
    const ids = await makeDead(20, large);
    await allow();
    const both = async (id: string, i: number) => {
      const retry = () => api(`/${id}/retry`, "POST");
      const discard = () => api(`/${id}`, "DELETE");
      const [one, other] = await Promise.all(i % 2 ? [retry(), discard()] : [discard(), retry()]);
      return i % 2 ? [one.status, other.status] : [other.status, one.status];
    };
    const outcomes = await Promise.all(ids.map(both));
    for (const [retried, discarded] of outcomes) expect([[202, 404], [404, 204]]).toContainEqual([retried, discarded]);
    await world.settleAll();
    const stored = outcomes.filter(([retried]) => retried === 202).length;
    expect(await world.sql("select event, count(*) as count from file_events group by event order by event"))
      .toEqual([{ event: "discarded", count: 20 - stored }, { event: "stored", count: stored }].filter(({ count }) => count > 0));
    expect(await world.sql("select records from ledger_totals")).toEqual([{ records: 20 }]);
    await nothingLeft();
  });

  test.each([["retry", "POST", "/retry", "DELETE", ""], ["discard", "DELETE", "", "POST", "/retry"]] as const)(
    "wait for each other: what comes while a %s holds the letter finds none", async (_what, firstMethod, firstPath, secondMethod, secondPath) => {
      const [id] = await makeDead();
      const { context } = world;
      let second: ReturnType<typeof api> | undefined;
      const { find, findRetriable } = context.inbox;
      // The first one has its lock when it looks into the inbox; now the second one comes.
      const secondComes = async () => {
        Object.assign(context.inbox, { find, findRetriable });
        second = api(`/${id}${secondPath}`, secondMethod);
        await somebodyWaits();
      };
      context.inbox.find = async (...args) => (await secondComes(), find(...args));
      context.inbox.findRetriable = async (...args) => (await secondComes(), findRetriable(...args));
      expect((await api(`/${id}${firstPath}`, firstMethod)).ok).toBe(true);
      expect((await second)!.status).toBe(404);
    });
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
