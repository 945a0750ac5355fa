import { join } from "node:path";
import { open } from "lmdb";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { fetch } from "../support/fetch.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";
import { download } from "../files/rot.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const LARGE_BYTES = 1_500_000;

/** An upload that waits, one of its bytes flipped. */
async function rottenUpload(sizeBytes: number): Promise<string> {
  const { file_id } = await (await world.put("a.bin", Buffer.alloc(sizeBytes, "waiting "))).json();
  const { store } = world.context.inbox;
  const { manifest } = (await world.context.inbox.find(file_id))!;
  const key = manifest.blob_key ?? `manifests/${file_id}`;
  const bytes = Buffer.from((await store.readWhole(key))!);
  bytes[bytes.length - 500]! ^= 1;
  await store.put(key, bytes);
  return file_id;
}

describe.each([["small", 1_000], ["large", LARGE_BYTES]])("an upload whose %s bytes rot in the inbox", (_what, sizeBytes) => {
  test("is not served as good, neither while it waits nor as a dead letter, neither whole nor in part", async () => {
    const id = await rottenUpload(sizeBytes);
    for (const when of ["waiting", "dead"]) {
      if (when === "dead") await world.settleAll();
      for (const headers of [undefined, { Range: "bytes=0-3" }, { Range: "bytes=-3" }]) {
        const answer = await download(world, id, headers);
        if (answer.status === 200) expect([answer.complete, answer.body.length < sizeBytes, sizeBytes]).toEqual([false, true, LARGE_BYTES]);
        else expect([answer.status, JSON.parse(answer.body.toString()).code]).toEqual([502, "FILE_DAMAGED"]);
      }
    }
    expect(await world.sql("select upload_id, code from dead_letters")).toEqual([{ upload_id: id, code: "INBOX_BYTES_DAMAGED" }]);
    expect(await world.sql("select storage_key from damaged_objects")).toEqual([]);
  });
});

test("a blob that is cut off or gone is the upload's own trouble, and not an outage of the inbox", async () => {
  const { readdir, rm, truncate } = await import("node:fs/promises");
  const { join } = await import("node:path");
  const folder = join(world.config.INBOX_DIR, "files");
  const ids: string[] = [];
  for (const spoil of [(path: string) => truncate(path, 10), (path: string) => rm(path)]) {
    const before = new Set(await readdir(folder, { recursive: true }));
    const answer = await world.put("a.bin", Buffer.alloc(LARGE_BYTES, String(ids.length)));
    ids.push((await answer.json()).file_id);
    const file = (await readdir(folder, { recursive: true })).find((name) => !before.has(name) && name.includes("/"))!;
    await spoil(join(folder, file));
  }
  const good = await (await world.put("good.txt", "good")).json();
  await world.settleAll();
  expect(await world.sql("select upload_id, code from dead_letters order by upload_id")).toEqual([
    { upload_id: ids[0], code: "INBOX_BYTES_DAMAGED" }, { upload_id: ids[1], code: "INBOX_BLOB_MISSING" }]);
  expect((await download(world, good.file_id)).body.toString()).toBe("good");
});

test("a record of the inbox that cannot be read is a dead letter, alone, and the rest goes on", async () => {
  const { store } = world.context.inbox;
  const bad = (await (await world.put("bad.txt", "bad")).json()).file_id;
  await world.put("good.txt", "good");
  const record = Buffer.from((await store.readWhole(`manifests/${bad}`))!);
  record[10]! ^= 0x80;
  await store.put(`manifests/${bad}`, record);
  expect((await download(world, bad)).status).toBe(502);
  expect((await download(world, `${bad}/status`)).status).toBe(502);
  await world.settleAll();
  expect(await world.sql("select upload_id, code, attempts from dead_letters")).toEqual([{ upload_id: bad, code: "INBOX_RECORD_DAMAGED", attempts: 3 }]);
  expect(await world.sql("select file_name from file_events")).toEqual([{ file_name: "good.txt" }]);
  world.setClock(new Date(Date.now() + 3_600_000));
  expect(await world.reconcile()).toMatchObject({ requeued: 0 });
  await world.sql("delete from dead_letters");
  expect(await world.reconcile()).toMatchObject({ requeued: 1 });
  await world.settleAll();
  expect(await world.sql("select code from dead_letters")).toEqual([{ code: "INBOX_RECORD_DAMAGED" }]);
  world.setClock(new Date(Date.now() + 100 * 3_600_000));
  await store.put("blobs/whose", Buffer.from("maybe the bad one's"));
  await world.reconcile();
  expect(await store.head("blobs/whose")).toBeDefined(); // a manifest that cannot be read may name it
});

test.each<[string, string]>([["its id", "upload_id"], ["its owner", "owner_id"], ["the time it came", "event_time"]])(
  "a record of which one digit of %s is another is a dead letter under the upload's own id, and nobody else's row", async (_what, field) => {
    const { store } = world.context.inbox;
    const { file_id: id } = await (await world.put("a.txt", Buffer.alloc(1_000, "a"))).json();
    const record = Buffer.from((await store.readWhole(`manifests/${id}`))!);
    const at = record.indexOf(/\d/.exec(record.toString("latin1", record.indexOf(`"${field}":`)))![0], record.indexOf(`"${field}":`));
    record[at]! ^= 1; // a digit becomes its neighbour: still a manifest, of somebody else
    await store.put(`manifests/${id}`, record);
    await world.settleAll();
    expect(await world.sql("select upload_id, code, attempts from dead_letters")).toEqual([{ upload_id: id, code: "INBOX_RECORD_DAMAGED", attempts: 3 }]);
    expect(await world.sql("select id from files")).toEqual([]);
    expect((await (await fetch(`${world.url}/api/dead-letters`)).json()).dead_letters).toMatchObject([{ id }]);
  });

test("of a record that cannot be read one sender takes the place: other bytes under the same key are refused", async () => {
  const headers = { "Idempotency-Key": "k" };
  const { file_id: id } = await (await world.put("first.txt", "first", headers)).json();
  const { store } = world.context.inbox;
  await store.put(`manifests/${id}`, Buffer.from("nothing that could be read"));
  const { read, replaceIf } = store;
  let second: Response | undefined;
  store.replaceIf = async (...args) => { // the first has seen what is there, when another comes and goes
    Object.assign(store, { read, replaceIf });
    second = await world.put("second.txt", "second", headers);
    return replaceIf(...args);
  };
  const first = await world.put("first.txt", "first", headers);
  expect([first.status, second?.status]).toEqual([422, 202]);
  await world.settleAll();
  expect(await (await fetch(`${world.url}/api/files/${id}`)).text()).toBe("second");
});

test("a dead letter names the message by which it was given up last", async () => {
  const id = await rottenUpload(1_000);
  await world.settleAll();
  const again = await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
  await world.settleAll();
  expect(await world.sql("select upload_id, stream_id, attempts from dead_letters")).toEqual([{ upload_id: id, stream_id: again, attempts: 3 }]);
});

test("a record of the inbox's index that names a file which is not there, or seems to, stops nobody", async () => {
  const headers = { "Idempotency-Key": "k" };
  const seems = (await (await world.put("seems.txt", "seems", headers)).json()).file_id;
  const names = (await (await world.put("names.txt", "names", { "Idempotency-Key": "l" })).json()).file_id;
  const good = (await (await world.put("good.txt", "good")).json()).file_id;
  const resent = (await (await world.put("resent.txt", "resent", { "Idempotency-Key": "m" })).json()).file_id;
  const index = open<Buffer, Buffer>(join(world.config.INBOX_DIR, "index"), { noSubdir: false, encoding: "binary", keyEncoding: "binary" });
  const idOf = (id: string) => Buffer.from(`\u0001manifests/${id}`);
  const [FILE, sizeAt] = [2, 9];
  const record = Buffer.from(index.get(idOf(seems))!);
  record[0] = FILE;
  await index.put(idOf(seems), record);
  const hash = "a".repeat(64);
  const name = Buffer.concat([record.subarray(0, sizeAt), Buffer.alloc(8), Buffer.from(`aa/${hash}-01a1f8ae-8272-719c-9153-ca82f55a4ad5`)]);
  await index.put(idOf(names), name);
  const nameOfMany = Buffer.from(name);
  nameOfMany.writeDoubleLE(1_000, sizeAt);
  await index.put(idOf(resent), nameOfMany);
  await index.close();
  await world.redis.del(world.stream);
  world.setClock(new Date(Date.now() + 3_600_000));
  expect(await world.reconcile()).toMatchObject({ requeued: 4 });
  expect((await world.put("resent.txt", "resent", { "Idempotency-Key": "m" })).status).toBe(202);
  await world.settleAll();
  expect((await download(world, resent)).body.toString()).toBe("resent");
  expect((await download(world, seems)).body.toString()).toBe("seems"); // the kind alone was damaged, not a byte of the upload
  expect((await download(world, good)).body.toString()).toBe("good");
  expect(await world.sql("select upload_id, code from dead_letters")).toEqual([{ upload_id: names, code: "INBOX_RECORD_DAMAGED" }]);
  expect((await fetch(`${world.url}/api/dead-letters/${names}`, { method: "DELETE" })).status).toBe(204);
  expect(await inboxKeys(world)).toEqual([]);
});

test("good bytes never leave the inbox on the word of an object that nobody read: two workers mend it, and it is told once", async () => {
  for (const bytes of [Buffer.alloc(1_000, "s"), Buffer.alloc(LARGE_BYTES, "l")]) {
    const first = await (await world.put("first", bytes)).json();
    await world.settleAll();
    const [{ key }] = await world.sql<{ key: string }>("select storage_key as key from files where id = $1", [first.file_id]) as [{ key: string }];
    await world.context.storage.put(key, Buffer.alloc(bytes.length, "rotten"));
    await world.put("second", bytes);
    await world.put("third", bytes);
    const entries = (await world.redis.xrange(world.stream, "-", "+")).map(([id, [, k, , body]]) => ({ id, key: k!, body: body! }));
    const { db, inbox, storage, log } = world.context;
    await Promise.all(["one", "two", "three"].map((worker) => createSettle({ db, inbox, storage, worker, log })(entries)));
    await world.settleAll();
    expect(Buffer.from((await storage.readWhole(key))!).equals(bytes)).toBe(true);
    expect(await world.sql("select event, count(*) from file_events where file_id = $1 group by event order by event", [first.file_id])).toEqual([
      { event: "damaged", count: 1 }, { event: "repaired", count: 1 }, { event: "stored", count: 1 }]);
    const [{ difference }] = await world.sql<{ difference: number }>("select (select count(*) from file_events) - records as difference from ledger_totals") as [{ difference: number }];
    expect(difference).toBe(0);
  }
});

test("a batch that is given up leaves no put running behind it", async () => {
  for (let i = 0; i < 6; i++) await world.put(`${i}.bin`, Buffer.alloc(i % 2 ? 1_000 : 5_000, String(i)));
  const { db, inbox, log } = world.context;
  let running = 0;
  let begun = 0;
  const storage: typeof world.context.storage = {
    ...world.context.storage,
    async put(key, body, options) {
      running++;
      if (begun++ === 0) return Promise.reject(new Unavailable("storage")).finally(() => running--);
      return world.context.storage.put(key, body, options).finally(() => running--);
    },
  };
  const entries = (await world.redis.xrange(world.stream, "-", "+")).map(([id, [, key, , body]]) => ({ id, key: key!, body: body! }));
  await expect(createSettle({ db, inbox, storage, worker: "w", log })(entries)).rejects.toBeInstanceOf(Unavailable);
  expect(running).toBe(0);
  const before = begun;
  await world.settleAll();
  expect(begun).toBe(before);
  expect(await world.ledger()).toBe(6);
});
