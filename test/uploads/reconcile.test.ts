import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", RECONCILE_AGE_SECONDS: "30" });
});
afterEach(() => world.close());

const MINUTE_MS = 60_000;
const inTheFuture = () => world.setClock(new Date(Date.now() + MINUTE_MS));

test("what the stream lost is queued again and settled once", async () => {
  await Promise.all([world.put("a.txt", "a"), world.put("b.bin", Buffer.alloc(5_000)), world.put("c.txt", "c")]);
  await world.redis.del(world.stream);
  inTheFuture();
  expect(await world.reconcile()).toMatchObject({ requeued: 3, removed: 0 });
  await world.settleAll();
  expect(await world.ledger()).toBe(3);
  expect(await world.reconcile()).toMatchObject({ requeued: 0, removed: 0 });
});

test("what still waits in the stream, or is in a worker's hands, is not queued twice", async () => {
  await Promise.all(Array.from({ length: 5 }, (_, i) => world.put(`${i}.txt`, `${i}`)));
  await world.redis.xgroup("CREATE", world.stream, "settlers", "0");
  await world.redis.xreadgroup("GROUP", "settlers", "somebody", "COUNT", 2, "STREAMS", world.stream, ">");
  inTheFuture();
  expect(await world.reconcile()).toMatchObject({ requeued: 0 });
  expect(await world.redis.xlen(world.stream)).toBe(5);
});

test("a young upload is left alone", async () => {
  await world.put("a.txt", "a");
  await world.redis.del(world.stream);
  expect(await world.reconcile()).toMatchObject({ requeued: 0 });
});

test("what a machine wrote whose clock is an hour ahead does not wait for an hour", async () => {
  await world.put("a.txt", "a");
  await world.redis.del(world.stream);
  world.setClock(new Date(Date.now() - 60 * MINUTE_MS));
  expect(await world.reconcile()).toMatchObject({ requeued: 1 });
});

test("an inbox entry whose row is committed is removed", async () => {
  const { file_id } = await (await world.put("a.txt", "a")).json();
  const record = (await world.context.inbox.find(file_id))!;
  await world.settleAll();
  const { blob_key: _, ...manifest } = record.manifest;
  await world.context.inbox.commit(manifest, { sizeBytes: 1, sha256: manifest.sha256, sniffedType: undefined, bytes: record.bytes, blobKey: null });
  inTheFuture();
  expect(await world.reconcile()).toMatchObject({ requeued: 0, removed: 1 });
  expect(await world.context.inbox.find(file_id)).toBeUndefined();
  expect(await world.ledger()).toBe(1);
});

test("a dead letter is neither queued again nor removed", async () => {
  const { file_id } = await (await world.put("a.txt", "a")).json();
  await world.sql("alter table files add constraint never check (name <> 'a.txt')");
  await world.settleAll();
  inTheFuture();
  expect(await world.reconcile()).toMatchObject({ requeued: 0, removed: 0 });
  expect(await world.context.inbox.find(file_id)).toBeDefined();
});

test("bytes without a manifest are removed after a day, and not before; those with one stay", async () => {
  await world.put("kept.bin", Buffer.alloc(5_000));
  const { store } = world.context.inbox;
  await store.put("blobs/orphan", Buffer.alloc(5_000));
  await world.reconcile();
  expect(await store.head("blobs/orphan")).toBeDefined();
  world.setClock(new Date(Date.now() + 25 * 60 * MINUTE_MS));
  expect(await world.reconcile()).toMatchObject({ swept: 1 });
  expect(await store.head("blobs/orphan")).toBeUndefined();
  await world.settleAll();
  expect(await world.ledger()).toBe(1);
});

test("only one process reconciles at a time", async () => {
  let release!: () => void;
  const held = new Promise<void>((resolve) => (release = resolve));
  let locked!: () => void;
  const isLocked = new Promise<void>((resolve) => (locked = resolve));
  const other = world.context.db.exclusively("connectstorm:reconcile", async () => {
    locked();
    await held;
  });
  await isLocked;
  expect(await world.reconcile()).toBeUndefined();
  release();
  await other;
  expect(await world.reconcile()).toBeDefined();
});

test("looking at what waits on a disk reads none of it", async () => {
  await Promise.all(Array.from({ length: 5 }, (_, i) => world.put(`${i}.txt`, `${i}`)));
  const { store } = world.context.inbox;
  const { list, readWhole } = store;
  const refuse = async () => { throw new Error("this reads what waits"); };
  Object.assign(store, { list: (prefix: string, options: { limit: number }) => (prefix === "blobs/" ? list(prefix, options) : refuse()), readWhole: refuse });
  inTheFuture();
  try {
    expect(await world.reconcile()).toMatchObject({ requeued: 0, removed: 0 }); // all of them are in the stream
  } finally {
    Object.assign(store, { list, readWhole });
  }
});

test("what came again for a file whose object is damaged is not taken for settled, though the stream lost it", async () => {
  const headers = { "Idempotency-Key": "k" };
  const { file_id, sha256 } = await (await world.put("a.bin", Buffer.alloc(5_000, "good"), headers)).json();
  await world.settleAll();
  const key = `sha256/${sha256.slice(0, 2)}/${sha256}`;
  await world.context.storage.put(key, Buffer.alloc(5_000, "rotten"));
  const bytes = () => fetch(`${world.url}/api/files/${file_id}`).then((response) => response.arrayBuffer()).then((body) => Buffer.from(body).toString(), () => "broken off");
  expect(await bytes()).not.toBe("good".repeat(1_250));
  await eventually(() => world.sql("select storage_key from damaged_objects"), [{ storage_key: key }]);

  expect((await world.put("a.bin", Buffer.alloc(5_000, "good"), headers)).status).toBe(202); // the same key: not answered from memory
  await world.redis.del(world.stream);
  inTheFuture();
  expect(await world.reconcile()).toMatchObject({ requeued: 1, removed: 0 });
  await world.settleAll();
  expect(await bytes()).toBe("good".repeat(1_250));
  expect(await world.sql("select storage_key from damaged_objects")).toEqual([]);
  expect(await world.sql("select count(*)::int as files from files")).toEqual([{ files: 1 }]);
});

test("one orphan does not make the sweep read every waiting upload whole, nor one after the other", async () => {
  const { store } = world.context.inbox;
  await Promise.all(Array.from({ length: 100 }, (_, i) => world.put(`${i}.bin`, Buffer.alloc(1_000, `${i} `))));
  await world.put("large.bin", Buffer.alloc(5_000));
  await store.put("blobs/orphan", Buffer.alloc(5_000));
  const { read, readWhole } = store;
  let [whole, sideBySide, most] = [0, 0, 0];
  store.readWhole = (key) => (whole++, readWhole(key));
  store.read = async (key, range) => {
    most = Math.max(most, ++sideBySide);
    expect(range).toMatchObject({ start: 0 });
    return read(key, range).finally(() => sideBySide--);
  };
  expect(await world.context.inbox.sweep(new Date(Date.now() + MINUTE_MS))).toBe(1);
  expect([whole, most]).toEqual([0, 32]);
  expect(await store.list("blobs/", { limit: 10 })).toHaveLength(1);
  await store.put("blobs/orphan", Buffer.alloc(5_000));
  store.read = async (key, range) => {
    await store.remove([key]); // settled since it was listed
    return read(key, range);
  };
  expect(await world.context.inbox.sweep(new Date(Date.now() + MINUTE_MS))).toBe(2);
});
