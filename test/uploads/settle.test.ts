import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createConsumer } from "../../src/stream/consumer.ts";
import { UPLOADS_GROUP } from "../../src/uploads/messages.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { fetch } from "../support/fetch.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", RETRY_SECONDS: "0" });
});
afterEach(() => world.close());

const large = Buffer.alloc(100_000, "large ");

async function put(name: string, bytes: string | Uint8Array): Promise<string> {
  return (await (await world.put(name, bytes)).json()).file_id;
}

async function statusOf(id: string) {
  return (await fetch(`${world.url}/api/files/${id}/status`)).json();
}

/** A worker like the world's, with one of its dependencies replaced. */
function workerWith(change: Partial<Parameters<typeof createSettle>[0]>, name = "crashing") {
  const { context } = world;
  return createConsumer({
    redis: context.redis, blocking: world.redis, stream: context.stream, group: UPLOADS_GROUP, name, batchSize: 500,
    claimIdleMs: 1, retryMs: 0, log: context.log,
    handle: createSettle({ db: context.db, inbox: context.inbox, storage: context.storage, worker: name, log: context.log, ...change }),
  });
}

/** What another left is taken over once it has not been touched for a millisecond: often at once, not always. */
async function takeOver(): Promise<number> {
  const next = workerWith({}, "next");
  for (;;) {
    const count = await next.runOnce(1);
    if (count > 0) return count;
  }
}

describe("an upload whose own trouble keeps it from being settled", () => {
  test("becomes a dead letter after three attempts, alone, and its bytes are kept", async () => {
    const good = await put("good.txt", "good");
    const bad = await put("bad.bin", large);
    const record = (await world.context.inbox.find(bad))!;
    await world.context.inbox.store.put(record.manifest.blob_key!, Buffer.alloc(100_000, "rotten "));
    for (let attempt = 1; attempt <= 3; attempt++) {
      expect((await statusOf(bad)).status).not.toBe("failed");
      expect(await world.settle()).toBeGreaterThan(0);
    }
    expect(await statusOf(good)).toMatchObject({ status: "stored" });
    expect(await statusOf(bad)).toMatchObject({ status: "failed", attempts: 3, reason: expect.stringContaining("not those that were acknowledged") });
    expect(await world.sql("select upload_id, code, attempts, file_name, size_bytes from dead_letters")).toEqual([
      { upload_id: bad, code: "INBOX_BYTES_DAMAGED", attempts: 3, file_name: "bad.bin", size_bytes: 100_000 }]);
    expect(await world.ledger()).toBe(1);
    expect(await world.redis.xlen(world.stream)).toBe(0);
    expect(await world.context.inbox.store.head(record.manifest.blob_key!)).toMatchObject({ sizeBytes: 100_000 });
    expect(await world.context.storage.list("", { limit: 10 })).toHaveLength(1);
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
  });

  test("costs nobody else in its batch an attempt when the database refuses its row", async () => {
    const ids = [await put("a.txt", "a"), await put("b.txt", "b"), await put("c.txt", "c"), await put("d.txt", "d")];
    await world.sql(`alter table files add constraint no_b check (name <> 'b.txt')`);
    await world.settle();
    expect(await world.sql("select file_id from file_events order by file_name")).toEqual([ids[0], ids[2], ids[3]].map((file_id) => ({ file_id })));
    expect(await world.sql("select upload_id, attempts from settle_attempts")).toEqual([{ upload_id: ids[1], attempts: 1 }]);
    await world.sql(`alter table files drop constraint no_b`);
    await world.settleAll();
    expect(await world.ledger()).toBe(4);
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
  });

  test("is a dead letter when the stream names an upload that nobody has", async () => {
    await world.redis.xadd(world.stream, "*", "key", "01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2", "body", "{}");
    await world.redis.xadd(world.stream, "*", "something", "else");
    await world.settleAll();
    expect(await world.sql("select code from dead_letters")).toEqual([{ code: "INBOX_ENTRY_MISSING" }]);
    expect(await world.redis.xlen(world.stream)).toBe(0);
  });

  test("that was given up becomes a file with one ledger row when it can be settled after all", async () => {
    const id = await put("later.txt", "later");
    await world.sql(`alter table files add constraint not_now check (name <> 'later.txt')`);
    await world.settleAll();
    expect(await statusOf(id)).toMatchObject({ status: "failed", attempts: 3 });
    await world.sql(`alter table files drop constraint not_now`);
    await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
    await world.settleAll();
    expect(await statusOf(id)).toMatchObject({ status: "stored" });
    expect(await world.sql("select upload_id from dead_letters")).toEqual([]);
    expect(await world.ledger()).toBe(1);
  });
});

describe("a batch that breaks off", () => {
  test.each([
    ["because storage cannot be reached", () => ({ storage: { ...world.context.storage, put: async () => { throw new Unavailable("storage"); } } })],
    ["because the database cannot be reached", () => ({ db: { ...world.context.db, query: async () => { throw new Unavailable("postgres"); } } })],
    ["because the inbox cannot be reached", () => ({ inbox: { ...world.context.inbox, findUndamaged: async () => { throw new Unavailable("inbox"); } } })],
    ["after the commit and before the inbox entry is removed", () => ({ inbox: { ...world.context.inbox, remove: async () => { throw new Error("crash"); } } })],
  ])("%s spends no attempt and is settled once when it comes again", async (_why, change) => {
    const ids = [await put("a.txt", "a"), await put("large.bin", large)];
    await expect(workerWith(change()).runOnce(1)).rejects.toThrow();
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
    expect(await takeOver()).toBe(2);
    expect(await world.ledger()).toBe(2);
    expect(await Promise.all(ids.map(async (id) => (await statusOf(id)).status))).toEqual(["stored", "stored"]);
    expect(await world.redis.xlen(world.stream)).toBe(0);
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("between the commit and the acknowledgement is in the ledger once after it comes again", async () => {
    await put("a.txt", "a");
    const settle = createSettle({ db: world.context.db, inbox: world.context.inbox, storage: world.context.storage, worker: "dying", log: world.context.log });
    const dying = createConsumer({
      redis: world.context.redis, blocking: world.redis, stream: world.stream, group: UPLOADS_GROUP, name: "dying", batchSize: 10, claimIdleMs: 1_000, retryMs: 0,
      log: world.context.log,
      handle: async (entries) => {
        await settle(entries);
        throw new Error("crash before ack");
      },
    });
    await expect(dying.runOnce(1)).rejects.toThrow("crash before ack");
    expect((await world.redis.xpending(world.stream, UPLOADS_GROUP))[0]).toBe(1);
    expect(await takeOver()).toBe(1);
    expect(await world.ledger()).toBe(1);
    expect(await world.redis.xlen(world.stream)).toBe(0);
  });

  test("delivered to two workers at once is in the ledger once", async () => {
    await Promise.all(Array.from({ length: 30 }, (_, i) => put(`${i}.txt`, `body ${i}`)));
    const entries = (await world.redis.xrange(world.stream, "-", "+")).map(([id, [, key, , body]]) => ({ id, key: key!, body: body! }));
    const settlers = ["one", "two", "three"].map((worker) => createSettle({
      db: world.context.db, inbox: world.context.inbox, storage: world.context.storage, worker, log: world.context.log }));
    await Promise.all(settlers.map((settle) => settle(entries)));
    expect(await world.ledger()).toBe(30);
    expect(await world.sql("select records from ledger_totals")).toEqual([{ records: 30 }]);
    expect(await world.sql("select upload_id from settle_attempts")).toEqual([]);
  });
});

test("other bytes under a settled upload's id, taken in while the database was away, are not dropped in silence", async () => {
  const headers = { "Idempotency-Key": "k" };
  const { file_id } = await (await world.put("a.txt", "first", headers)).json();
  await world.settleAll();
  const { manifest } = await world.context.inbox.commit(
    { upload_id: file_id, owner_id: "00000000-0000-8000-8000-000000000000", filename: "b.txt", size_bytes: 6, content_type: "text/plain",
      sha256: "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4", uploader_id: null, event_time: new Date().toISOString(), accepted_by: "another" },
    { sizeBytes: 6, sha256: "", sniffedType: undefined, bytes: Buffer.from("second"), blobKey: null });
  await world.redis.xadd(world.stream, "*", "key", file_id, "body", JSON.stringify(manifest));
  await world.settleAll();
  expect(await world.sql("select code from dead_letters")).toEqual([{ code: "IDEMPOTENCY_KEY_REUSED" }]);
  expect((await world.context.inbox.find(file_id))?.manifest.filename).toBe("b.txt");
  expect(await (await fetch(`${world.url}/api/files/${file_id}`)).text()).toBe("first");
  expect(await world.ledger()).toBe(1);
});

test("a process that is to end finishes the slice in hand and leaves the rest of a large batch to others", async () => {
  const roomy = await openWorld();
  try {
    const body = Buffer.alloc(256 * 1024);
    await Promise.all(Array.from({ length: 36 }, (_, i) => roomy.put(`${i}.bin`, Buffer.concat([body.subarray(4), Buffer.from([i, 1, 1, 1])]))));
    const stopping = new AbortController();
    const { context } = roomy;
    const storage: typeof context.storage = { ...context.storage, put: (...put) => (stopping.abort(), context.storage.put(...put)) };
    const settle = createSettle({ db: context.db, inbox: context.inbox, storage, worker: "ending", stopping: stopping.signal, log: context.log });
    const entries = (await roomy.redis.xrange(roomy.stream, "-", "+")).map(([id, [, key, , text]]) => ({ id, key: key!, body: text! }));
    const left = await settle(entries);
    expect([await roomy.ledger(), left.size]).toEqual([32, 4]);
    await roomy.settleAll();
    expect(await roomy.ledger()).toBe(36);
  } finally {
    await roomy.close();
  }
});
