import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createAudit, describeAudit } from "../../src/uploads/audit/audit.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { servers } from "../support/servers.ts";
import { inboxKeys, openWorld, tallyOf, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const headers = { "Idempotency-Key": "order-17" };
const small = "the right bytes";
const large = Buffer.alloc(300_000, "the right bytes ");

const statusOf = async (id: string) => (await fetch(`${world.url}/api/files/${id}/status`)).json();
const store = () => world.context.inbox.store;
const codes = async () => (await world.sql<{ code: string }>("select code from dead_letters")).map(({ code }) => code);

/** The inbox's record of a small upload, with one byte of its content flipped. */
async function flipByte(id: string): Promise<void> {
  const record = Buffer.from((await store().readWhole(`manifests/${id}`))!);
  record[record.length - 3]! ^= 1;
  await store().put(`manifests/${id}`, record);
}

async function cutRecord(id: string): Promise<void> {
  await store().put(`manifests/${id}`, (await store().readWhole(`manifests/${id}`))!.slice(0, 40));
}

async function cutBlob(id: string): Promise<void> {
  await store().put((await world.context.inbox.find(id))!.manifest.blob_key!, large.subarray(0, 100_000));
}

async function removeBlob(id: string): Promise<void> {
  await store().remove([(await world.context.inbox.find(id))!.manifest.blob_key!]);
}

const removeManifest = (id: string) => store().remove([`manifests/${id}`]);

describe("the same bytes under the same Idempotency-Key, after the first ones", () => {
  test.each<[string, string, string | Uint8Array, (id: string) => Promise<void>]>([
    ["were damaged, a small upload's", "INBOX_BYTES_DAMAGED", small, flipByte],
    ["were damaged, a large upload's", "INBOX_BYTES_DAMAGED", large, cutBlob],
    ["were lost, a large upload's", "INBOX_BLOB_MISSING", large, removeBlob],
    ["were lost with their manifest, a small upload's", "INBOX_ENTRY_MISSING", small, removeManifest],
    ["were lost with their manifest, a large upload's", "INBOX_ENTRY_MISSING", large, removeManifest],
    ["became a record that cannot be read", "INBOX_RECORD_DAMAGED", small, cutRecord],
  ])("%s, take their place: %s", async (_what, code, bytes, damage) => {
    const first = await (await world.put("first.bin", bytes, headers)).json();
    const id = first.file_id;
    const before = await statusOf(id);
    await damage(id);
    await world.settleAll();
    expect(await codes()).toEqual([code]);

    const response = await world.put("first.bin", bytes, headers);
    expect(response.status).toBe(202);
    const again = await response.json();
    expect(again).toEqual({ ...first, stream_id: expect.not.stringMatching(`^${first.stream_id}$`) });
    expect(await codes()).toEqual([]);
    const waiting = await statusOf(id);
    expect(waiting).toMatchObject({ status: "accepted", sha256: first.sha256 });
    expect(waiting.accepted_at).toBe(before.accepted_at);
    // Only a blob that no manifest names any more is left, until it is swept.
    expect(await store().list("blobs/", { limit: 10 })).toHaveLength(bytes === small ? 0 : code === "INBOX_ENTRY_MISSING" ? 2 : 1);
    await world.settleAll();
    expect(await statusOf(id)).toMatchObject({ status: "stored" });
    expect(Buffer.from(await (await fetch(`${world.url}/api/files/${id}`)).arrayBuffer())).toEqual(Buffer.from(bytes));
    expect(await world.ledger()).toBe(1);
    expect(await codes()).toEqual([]);
    world.setClock(new Date(Date.now() + 2 * 86_400_000)); // a blob that nobody names any more is swept after a day
    await world.reconcile();
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("were damaged, are refused where they are other bytes, and change nothing", async () => {
    const { file_id: id } = await (await world.put("first.bin", small, headers)).json();
    await flipByte(id);
    await world.settleAll();
    const response = await world.put("first.bin", large, headers);
    expect([response.status, (await response.json()).code]).toEqual([422, "IDEMPOTENCY_KEY_REUSED"]);
    expect(await codes()).toEqual(["INBOX_BYTES_DAMAGED"]);
    expect(await store().list("blobs/", { limit: 10 })).toEqual([]);
  });

  test("were good, and the database refused them, are not needed: the first receipt again", async () => {
    await world.sql("alter table files add constraint refused check (name <> 'first.bin')");
    const first = await (await world.put("first.bin", large, headers)).json();
    await world.settleAll();
    expect(await (await world.put("first.bin", large, headers)).json()).toEqual(first);
    expect(await codes()).toEqual(["SETTLE_FAILED"]);
    expect(await store().list("blobs/", { limit: 10 })).toHaveLength(1);
  });

  test("were damaged, sent ten times at once, heal it once", async () => {
    const { file_id: id } = await (await world.put("first.bin", large, headers)).json();
    await removeBlob(id);
    await world.settleAll();
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.put("first.bin", large, headers)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(await store().list("blobs/", { limit: 10 })).toHaveLength(1);
    await world.settleAll();
    expect(await world.ledger()).toBe(1);
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("were damaged, sent twice at once, heal it once: the second waits, and finds nothing to heal", async () => {
    const first = await (await world.put("first.bin", large, headers)).json();
    await removeBlob(first.file_id);
    await world.settleAll();
    const { inbox } = world.context;
    const { find, replace } = inbox;
    let second: ReturnType<World["put"]> | undefined;
    let replaced = 0;
    inbox.find = async (id) => {
      inbox.find = find;
      second = world.put("first.bin", large, headers);
      await deadLettersIn(() => world).somebodyWaits();
      return find(id);
    };
    inbox.replace = (...args) => (replaced++, replace(...args));
    const answer = await (await world.put("first.bin", large, headers)).json();
    expect(await (await second!).json()).toMatchObject({ file_id: answer.file_id, sha256: answer.sha256 });
    expect(replaced).toBe(1);
    expect(await store().list("blobs/", { limit: 10 })).toHaveLength(1);
    await world.settleAll();
    expect(await statusOf(first.file_id)).toMatchObject({ status: "stored" });
  });

  test("were damaged, while a stale delivery of them is being settled, are stored all the same", async () => {
    const { file_id: id } = await (await world.put("first.bin", large, headers)).json();
    await removeBlob(id);
    await world.settleAll();
    await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
    // The worker has read the old manifest when the good bytes come.
    const read = store().read.bind(store());
    store().read = async (...args) => {
      store().read = read;
      expect((await world.put("first.bin", large, headers)).status).toBe(202);
      return read(...args);
    };
    await world.settleAll();
    expect(await statusOf(id)).toMatchObject({ status: "stored" });
    expect(await world.ledger()).toBe(1);
    expect([await codes(), await inboxKeys(world)]).toEqual([[], []]);
  });
});

test("while PostgreSQL is away the first receipt is the answer, and nothing changes", async () => {
  const proxy = await throughFaultProxy(servers.pgUri());
  const away = await openWorld({ SMALL_OBJECT_BYTES: "1024" }, { databaseHost: new URL(proxy.url).host });
  try {
    const first = await (await away.put("first.bin", large, headers)).json();
    const manifest = (await away.context.inbox.find(first.file_id))!.manifest;
    await away.context.inbox.store.remove([manifest.blob_key!]);
    await away.settleAll();
    proxy.set({ down: true });
    expect(await (await away.put("first.bin", large, headers)).json()).toEqual(first);
    proxy.set({});
    expect((await away.context.inbox.find(first.file_id))!.manifest).toEqual(manifest);
    expect(await away.context.inbox.store.list("blobs/", { limit: 10 })).toEqual([]);
  } finally {
    await away.close();
    await proxy.close();
  }
});

test("with PostgreSQL gone before the healing is committed, the good bytes are there for a retry, and no others", async () => {
  const { file_id: id } = await (await world.put("first.bin", large, headers)).json();
  await removeBlob(id);
  await world.settleAll();
  const { requestDb: db } = world.context;
  const transaction = db.transaction.bind(db);
  db.transaction = (work) => transaction(async (tx) => { await work(tx); throw new Unavailable("postgres"); });
  expect((await world.put("first.bin", large, headers)).status).toBe(503); // nobody knows
  db.transaction = transaction;
  expect(await codes()).toEqual(["INBOX_BLOB_MISSING"]);
  expect(await store().list("blobs/", { limit: 10 })).toHaveLength(1);
  await world.redis.del(world.stream);
  expect((await fetch(`${world.url}/api/dead-letters/${id}/retry`, { method: "POST" })).status).toBe(202);
  await world.settleAll();
  expect(await statusOf(id)).toMatchObject({ status: "stored" });
});

test("bytes of which nothing at all is known any more are taken in as a new upload, whatever the stream says of them", async () => {
  const first = await (await world.put("first.bin", small, headers)).json();
  await removeManifest(first.file_id);
  const manifest = { upload_id: first.file_id, owner_id: "00000000-0000-8000-8000-000000000000", filename: "forged.bin", size_bytes: 15, sha256: "a".repeat(64), content_type: "a/b", uploader_id: null, event_time: "2001-01-01T00:00:00Z", blob_key: null };
  await world.redis.del(world.stream);
  await world.redis.xadd(world.stream, "*", "key", first.file_id, "body", JSON.stringify(manifest));
  await world.settleAll();
  expect(await codes()).toEqual(["INBOX_ENTRY_MISSING"]);
  expect(await (await world.put("second.bin", small, headers)).json()).toMatchObject({ filename: "second.bin", sha256: first.sha256 });
  await world.settleAll();
  expect(await statusOf(first.file_id)).toMatchObject({ status: "stored", filename: "second.bin" });
});

test("a record that cannot be read is replaced at once when its sender hands it in again, and is one acceptance", async () => {
  const { context } = world;
  const { file_id: id } = await (await world.put("first.bin", small, headers)).json();
  await cutRecord(id);
  expect((await world.put("first.bin", small, headers)).status).toBe(202);
  await world.put("last.bin", small); // the tally is written when this is in it, so the one before is, too
  await eventually(() => tallyOf(world), { files: 2, bytes: 2 * small.length });
  await world.settleAll();
  expect(await statusOf(id)).toMatchObject({ status: "stored" });
  expect(await world.ledger()).toBe(2);
  expect(describeAudit(await createAudit(context).read())).toMatchObject({ balanced: true, acknowledged: { files: 2, bytes: 2 * small.length } });
});
