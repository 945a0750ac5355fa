import { afterEach, beforeEach, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", CONSUMER_BATCH_SIZE: "20" });
});
afterEach(() => world.close());

/** Nineteen good uploads, large and small, and one bad one in their middle. @returns the bad one's id */
async function twentyWith(bad: string | Uint8Array): Promise<string> {
  let id = "";
  for (let i = 0; i < 20; i++) {
    const { file_id } = await (await world.put(i === 10 ? "bad.bin" : `${i}.bin`, i === 10 ? bad : i % 2 ? `small ${i}` : Buffer.alloc(5_000, `large ${i}`))).json();
    if (i === 10) id = file_id;
  }
  return id;
}

test.each<[string, string, string | Uint8Array, (id: string) => Promise<unknown>]>([
  ["a row that PostgreSQL refuses", "SETTLE_FAILED", "bad", () => world.sql("alter table files add constraint refused check (name <> 'bad.bin')")],
  ["a row that makes PostgreSQL fail", "SETTLE_FAILED", "bad", async () => {
    await world.sql("create function fail() returns trigger language plpgsql as $$ begin raise exception 'internal' using errcode = 'XX000'; end $$");
    await world.sql("create trigger refused before insert on files for each row when (new.name = 'bad.bin') execute function fail()");
  }],
  ["a small upload whose bytes are damaged", "INBOX_BYTES_DAMAGED", "bad", async (id) => {
    const record = Buffer.from((await world.context.inbox.store.readWhole(`manifests/${id}`))!);
    record[record.length - 1]! ^= 1;
    await world.context.inbox.store.put(`manifests/${id}`, record);
  }],
  ["a large upload whose bytes are damaged", "INBOX_BYTES_DAMAGED", Buffer.alloc(5_000, "bad"), async (id) => {
    const { blob_key } = (await world.context.inbox.find(id))!.manifest;
    await world.context.inbox.store.put(blob_key!, Buffer.alloc(5_000, "bat"));
  }],
  ["a large upload whose bytes are lost", "INBOX_BLOB_MISSING", Buffer.alloc(5_000, "bad"), async (id) =>
    world.context.inbox.store.remove([(await world.context.inbox.find(id))!.manifest.blob_key!])],
  ["an upload whose record cannot be read", "INBOX_RECORD_DAMAGED", "bad", (id) => world.context.inbox.store.put(`manifests/${id}`, Buffer.from("rotten"))],
  ["an upload whose record promises more than there is", "INBOX_RECORD_DAMAGED", "bad", (id) => world.context.inbox.store.put(`manifests/${id}`, Buffer.from("\x7f\xff\xff\xff{}", "latin1"))],
])("%s becomes a dead letter alone, after three attempts; the rest of its batch is stored on the first pass", async (_what, code, bytes, spoil) => {
  const id = await twentyWith(bytes);
  await spoil(id);
  for (let attempt = 1; attempt <= 3; attempt++) {
    expect(await world.settle()).toBe(attempt === 1 ? 20 : 1);
    expect(await world.ledger()).toBe(19);
    expect(await world.sql("select upload_id, attempts from settle_attempts")).toEqual(attempt < 3 ? [{ upload_id: id, attempts: attempt }] : []);
    expect(await world.sql("select upload_id from dead_letters")).toEqual(attempt < 3 ? [] : [{ upload_id: id }]);
  }
  expect(await world.settle()).toBe(0);
  expect(await world.sql("select upload_id, code, attempts, file_name, size_bytes from dead_letters"))
    .toEqual([{ upload_id: id, code, attempts: 3, file_name: "bad.bin", size_bytes: bytes.length }]);
  expect(await world.redis.xlen(world.stream)).toBe(0);
  const manifests = await world.context.inbox.store.list("manifests/", { limit: 10 });
  expect(manifests.map(({ key }) => key)).toEqual([`manifests/${id}`]); // kept for whoever decides
});

test("an upload whose record cannot be read, and which the stream has lost, is found by the reconciler and given up, and no bytes are swept until then", async () => {
  const { file_id: id } = await (await world.put("bad.bin", Buffer.alloc(5_000))).json();
  await world.context.inbox.store.put(`manifests/${id}`, Buffer.from("rotten"));
  await world.redis.del(world.stream);
  world.setClock(new Date(Date.now() + 2 * 86_400_000));
  expect(await world.reconcile()).toEqual({ requeued: 1, removed: 0, swept: 0 });
  await world.settleAll();
  expect(await world.sql("select upload_id, code from dead_letters")).toEqual([{ upload_id: id, code: "INBOX_RECORD_DAMAGED" }]);
  expect(await world.reconcile()).toEqual({ requeued: 0, removed: 0, swept: 0 });
  const { url } = world;
  expect((await fetch(`${url}/api/dead-letters/${id}`, { method: "DELETE" })).status).toBe(204);
  expect(await world.reconcile()).toEqual({ requeued: 0, removed: 0, swept: 1 });
});
