import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createAudit, describeAudit } from "../../src/uploads/audit/audit.ts";
import { createDeadLetters } from "../../src/uploads/dead-letters/dead-letters.ts";
import { insertSettled } from "../../src/uploads/queries.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, tallyOf, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const OWNER = "00000000-0000-8000-8000-000000000000";
const large = Buffer.alloc(100_000, "large ");
const { api, statusOf, allow, makeDead, somebodyWaits, nothingLeft } = deadLettersIn(() => world);

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
    await discardHalf(id!);
    expect((await (await api("")).json()).dead_letters).toMatchObject([{ id, retriable: false }]);
    expect((await api(`/${id}`, "DELETE")).status).toBe(204);
    expect(await world.sql("select event, size_bytes from file_events")).toEqual([{ event: "discarded", size_bytes: 5 }]);
  });

  test("that breaks off half-way, whose sender then hands the same bytes in again, is the same acceptance for the audit", async () => {
    const headers = { "Idempotency-Key": "once-more" };
    const [id] = await makeDead(1, "bytes", headers);
    await discardHalf(id!);
    await allow();
    expect(await (await world.put("bad-0.bin", "bytes", headers)).json()).toMatchObject({ file_id: id });
    await world.put("last.bin", "bytes"); // the tally is written when this is in it, so whatever came before is, too
    await eventually(() => tallyOf(world), { files: 2, bytes: 10 });
    await world.settleAll();
    expect(await statusOf(id!)).toMatchObject({ status: "stored" });
    expect(describeAudit(await createAudit(world.context).read())).toMatchObject({ balanced: true, acknowledged: { files: 2, bytes: 10 } });
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

/** The bytes are gone, and then the database is. */
async function discardHalf(id: string): Promise<void> {
  const { db, inbox, log } = world.context;
  const failing = createDeadLetters({
    inbox, enqueue: async () => null, worker: "w", log,
    db: { ...db, transaction: (work) => db.transaction(async (tx) => { await work(tx); throw new Unavailable("postgres"); }) },
  });
  await expect(failing.discard(OWNER, id)).rejects.toThrow(Unavailable);
}

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
