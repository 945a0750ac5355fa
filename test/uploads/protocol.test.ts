import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

const sha256 = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex");

describe.each([
  ["inbox and storage on disk", {}],
  ["inbox and storage in S3", { INBOX: "s3", STORAGE_MODE: "s3" }],
  ["inbox in S3, storage on disk", { INBOX: "s3" }],
  ["inbox on disk, storage in S3, ledger partitioned natively", { STORAGE_MODE: "s3", TIME_SERIES: "native" }],
] as const)("an upload with %s", (_where, settings) => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ ...settings, SMALL_OBJECT_BYTES: "4096", MAX_UPLOAD_BYTES: "30000000" });
  });
  afterAll(() => world.close());

  const large = Buffer.alloc(9_000_000, "0123456789abcdef-");

  test("is answered with the receipt of the API", async () => {
    const response = await world.upload("hello", { name: "greeting.txt", uploaderId: "user_1" });
    expect(response.status).toBe(202);
    const receipt = await response.json();
    expect(receipt).toEqual({
      success: true, message: "File uploaded and queued for processing", filename: "greeting.txt", size: 5,
      stream_id: expect.stringMatching(/^\d+-\d+$/), file_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      sha256: sha256("hello"), status_url: `/api/files/${receipt.file_id}/status`,
    });
  });

  test("has the same receipt without multipart", async () => {
    const receipt = await (await world.put("über maß.csv", "a,b\n")).json();
    expect(receipt).toMatchObject({ success: true, filename: "über maß.csv", size: 4, sha256: sha256("a,b\n") });
  });

  test.each([["small", "some bytes"], ["large", large]])("that is %s is accepted, then stored, and its bytes come back at every stage", async (_size, bytes) => {
    const { file_id, status_url, sha256: hash } = await (await world.put("data.bin", bytes)).json();
    expect(hash).toBe(sha256(bytes));
    const before = await (await fetch(world.url + status_url)).json();
    expect(before).toMatchObject({ status: "accepted", event_time: null, sha256: hash });
    expect(sha256(await bytesOf(world, file_id))).toBe(hash);

    await world.settleAll();
    const after = await (await fetch(world.url + status_url)).json();
    expect(after).toMatchObject({ status: "stored", accepted_at: before.accepted_at, event_time: before.accepted_at });
    expect(sha256(await bytesOf(world, file_id))).toBe(hash);
    expect(await world.context.inbox.find(file_id)).toBeUndefined();
  });

  test("is one row of the ledger, whose event time was fixed at acceptance", async () => {
    const acceptedAt = new Date("2026-03-01T12:00:00.123Z");
    world.setClock(acceptedAt);
    const { file_id, stream_id } = await (await world.upload("ledger me", { name: "l.txt", uploaderId: "device 7" })).json();
    world.setClock(undefined);
    await world.settleAll();
    const rows = await world.sql("select * from file_events where file_id = $1", [file_id]);
    expect(rows).toEqual([{
      event_time: acceptedAt, file_id, event: "stored", file_name: "l.txt", size_bytes: 9,
      sha256: createHash("sha256").update("ledger me").digest(), content_type: "text/plain", uploader_id: "device 7",
      owner_id: "00000000-0000-8000-8000-000000000000", stream_id, storage_key: expect.stringMatching(/^sha256\//), worker: "w1",
      settled_at: expect.any(Date), settle_ms: expect.any(Number), reason: null,
    }]);
    expect(rows[0]!.settle_ms).toBeGreaterThan(0);
  });

  test("leaves inbox, stream and pending list empty when all is settled", async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => world.upload(`body ${i % 5}`, { name: `${i}.txt` })));
    await world.put("large.bin", large);
    await world.settleAll();
    expect(await world.redis.xlen(world.stream)).toBe(0);
    expect((await world.redis.xpending(world.stream, "settlers"))[0]).toBe(0);
    expect(await inboxKeys(world)).toEqual([]);
    if (world.bucket) expect((await world.bucket.list("inbox/")).filter((key) => !key.startsWith("inbox/tallies/"))).toEqual([]);
  });

  test("with bytes that are stored already becomes a file of its own, and one object", async () => {
    const uploads = await Promise.all([1, 2, 3].map((i) => world.put(`copy-${i}.bin`, large).then((response) => response.json())));
    await world.settleAll();
    const keys = await world.sql("select distinct storage_key from files where id = any($1)", [uploads.map(({ file_id }) => file_id)]);
    expect(keys).toHaveLength(1);
    expect((await world.context.storage.list("sha256/", { limit: 1_000 })).filter(({ key }) => key === keys[0]!.storage_key)).toHaveLength(1);
  });

  test("under an Idempotency-Key has the same receipt again, before and after it is settled", async () => {
    const headers = { "Idempotency-Key": "order-17" };
    const first = await (await world.upload("once", { headers, name: "first.txt" })).json();
    const again = await (await world.upload("once", { headers, name: "renamed.txt" })).json();
    expect(again).toEqual(first);
    await world.settleAll();
    expect(await (await world.put("raw.txt", "once", headers)).json()).toEqual(first);
    await world.settleAll();
    expect(await world.sql("select 1 from file_events where file_id = $1", [first.file_id])).toHaveLength(1);
  });

  test("under an Idempotency-Key of other bytes is refused, before and after the first is settled", async () => {
    const headers = { "Idempotency-Key": "order-18" };
    const first = await (await world.upload("one thing", { headers })).json();
    const other = await world.upload("another thing", { headers });
    expect([other.status, (await other.json()).code]).toEqual([422, "IDEMPOTENCY_KEY_REUSED"]);
    await world.settleAll();
    expect((await world.put("x.bin", large, headers)).status).toBe(422);
    expect(await (await world.upload("one thing", { headers })).json()).toEqual(first);
    expect(await world.context.inbox.store.list("blobs/", { limit: 10 })).toEqual([]);
  });

  test("sent twenty times at once under one key is one file", async () => {
    const headers = { "Idempotency-Key": "storm" };
    const answers = await Promise.all(Array.from({ length: 20 }, () => world.upload("storm", { headers }).then((response) => response.json())));
    expect(new Set(answers.map(({ file_id }) => file_id)).size).toBe(1);
    await world.settleAll();
    expect(await world.sql("select 1 from file_events where file_id = $1", [answers[0].file_id])).toHaveLength(1);
  });
});

async function bytesOf(world: World, id: string): Promise<Uint8Array> {
  const response = await fetch(`${world.url}/api/files/${id}`);
  expect(response.status).toBe(200);
  return new Uint8Array(await response.arrayBuffer());
}
