import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createAudit } from "../../src/uploads/audit/audit.ts";
import { encodeRecord } from "../../src/uploads/inbox-record.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { newId } from "../../src/core/ids.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openWorld, tallyOf, type World } from "../support/world.ts";

let world: World;
let audit: ReturnType<typeof createAudit>;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
  audit = createAudit({ ...world.context, own: { acceptedBy: world.context.name, now: world.site.tallied } });
});
afterEach(() => world.close());

const large = Buffer.alloc(100_000, "large ");

async function put(name: string, bytes: string | Uint8Array, headers?: Record<string, string>): Promise<string> {
  const response = await world.put(name, bytes, headers);
  expect(response.status).toBe(202);
  return (await response.json()).file_id;
}

const tallied = (files: number, bytes: number) => eventually(() => tallyOf(world), { files, bytes });

/** [files, bytes] of each. */
async function figures(of = audit) {
  const { acknowledged, stored, failed, discarded, inFlight, difference, surplus } = await of.read();
  return Object.fromEntries(Object.entries({ acknowledged, stored, failed, discarded, inFlight, difference, surplus })
    .filter(([, amount]) => amount === null || amount.files + amount.bytes > 0).map(([name, amount]) => [name, amount && [amount.files, amount.bytes]]));
}

describe("acknowledged is stored, failed, discarded and in flight together", () => {
  test("through an upload's whole life, in files and bytes", async () => {
    expect(await figures()).toEqual({});
    await put("a.txt", "12345");
    const bad = await put("large.bin", large);
    expect(await figures()).toEqual({ acknowledged: [2, 100_005], inFlight: [2, 100_005] }); // the tally is not written yet
    await tallied(2, 100_005);
    expect(await figures()).toEqual({ acknowledged: [2, 100_005], inFlight: [2, 100_005] });

    await world.sql("alter table files add constraint not_large check (name <> 'large.bin')");
    await world.settle();
    expect(await figures()).toEqual({ acknowledged: [2, 100_005], stored: [1, 5], inFlight: [1, 100_000] });
    await world.settleAll();
    expect(await figures()).toEqual({ acknowledged: [2, 100_005], stored: [1, 5], failed: [1, 100_000] });

    await world.sql(`with gone as (delete from dead_letters where upload_id = $1 returning message)
      update acceptances set discarded_files = discarded_files + 1, discarded_bytes = discarded_bytes + (message ->> 'size_bytes')::bigint
      from gone where accepted_by = message ->> 'accepted_by'`, [bad]);
    await world.context.inbox.remove([(await world.context.inbox.find(bad))!.manifest]);
    expect(await figures()).toEqual({ acknowledged: [2, 100_005], stored: [1, 5], discarded: [1, 100_000] });
  });

  test("a dead letter that is settled after all is stored, and no longer failed", async () => {
    const id = await put("later.txt", "later");
    await world.sql("alter table files add constraint not_now check (name <> 'later.txt')");
    await world.settleAll();
    await world.sql("alter table files drop constraint not_now");
    await world.sql("delete from dead_letters");
    expect(await figures()).toEqual({ acknowledged: [1, 5], inFlight: [1, 5] });
    await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
    await world.settleAll();
    expect(await figures()).toEqual({ acknowledged: [1, 5], stored: [1, 5] });
  });

  test("a dead letter that was written without its manifest counts as failed once there is one", async () => {
    const id = await put("a.txt", "a");
    await tallied(1, 1);
    await world.sql(`insert into dead_letters (upload_id, attempts, code, reason, first_failed_at) values ($1, 3, 'X', 'x', now())`, [id]);
    expect(await figures()).toEqual({ acknowledged: [1, 1], inFlight: [1, 1] });
    await world.sql("alter table files add constraint never check (name <> 'a.txt')");
    await world.settleAll();
    expect(await figures()).toEqual({ acknowledged: [1, 1], failed: [1, 1] });
  });

  test("a file that lingers in the inbox after it was settled is stored, and not in flight as well", async () => {
    const id = await put("a.txt", "a");
    const record = (await world.context.inbox.find(id))!;
    await world.settleAll();
    await world.context.inbox.store.put(`manifests/${id}`, encodeRecord(record.manifest, record.bytes));
    expect(await figures()).toEqual({ acknowledged: [1, 1], stored: [1, 1] });
  });

  test("an upload that was seen in the inbox just before it was discarded is discarded, and not in flight as well", async () => {
    const id = await put("a.txt", "a");
    const record = (await world.context.inbox.find(id))!;
    await world.sql("alter table files add constraint never check (name <> 'a.txt')");
    await world.settleAll();
    expect((await fetch(`${world.url}/api/dead-letters/${id}`, { method: "DELETE" })).status).toBe(204);
    await world.context.inbox.store.put(`manifests/${id}`, encodeRecord(record.manifest, record.bytes));
    expect(await figures()).toEqual({ acknowledged: [1, 1], discarded: [1, 1] });
  });

  test("a replay under an Idempotency-Key counts once, while it waits and after it is settled", async () => {
    const headers = { "Idempotency-Key": "k" };
    await put("a.txt", "once", headers);
    await put("a.txt", "once", headers);
    await tallied(1, 4);
    expect(await figures()).toEqual({ acknowledged: [1, 4], inFlight: [1, 4] });
    await world.settleAll();
    await put("a.txt", "once", headers);
    await put("b.txt", "another");
    await world.settleAll();
    await tallied(2, 11);
    expect(await figures()).toEqual({ acknowledged: [2, 11], stored: [2, 11] });
  });

  test("manifests of a version that did not say who accepted them count too", async () => {
    const id = newId();
    await world.context.inbox.store.put(`manifests/${id}`, encodeRecord({
      upload_id: id, owner_id: "00000000-0000-8000-8000-000000000000", filename: "old.txt", size_bytes: 3, content_type: "text/plain",
      sha256: "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4", uploader_id: null, event_time: new Date().toISOString(), blob_key: null,
    } as never, Buffer.from("old")));
    expect(await figures()).toEqual({ acknowledged: [1, 3], inFlight: [1, 3] });
    await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
    await world.settleAll();
    expect(await figures()).toEqual({ acknowledged: [1, 3], stored: [1, 3] });
  });
});

describe("an upload that is acknowledged a second time after it was settled", () => {
  test.each(["the worker", "the reconciler"])("because the database was away, is one upload, whether %s finds it", async (finder) => {
    const postgres = await throughFaultProxy(servers.pgUri());
    const away = await openWorld({}, { databaseHost: new URL(postgres.url).host });
    try {
      const of = createAudit(away.context);
      const headers = { "Idempotency-Key": "k" };
      await away.put("a.txt", "bytes", headers);
      await away.settleAll();
      postgres.set({ down: true });
      expect((await away.put("a.txt", "bytes", headers)).status).toBe(202);
      await eventually(() => tallyOf(away), { files: 2, bytes: 10 });
      postgres.set({});
      await eventually(() => figures(of), { acknowledged: [2, 10], stored: [1, 5], inFlight: [1, 5] });
      if (finder === "the reconciler") {
        await away.redis.del(away.stream);
        away.setClock(new Date(Date.now() + 60_000));
        expect(await away.reconcile()).toMatchObject({ removed: 1 });
      }
      await away.settleAll();
      expect(await figures(of)).toEqual({ acknowledged: [1, 5], stored: [1, 5] });
      expect(await away.context.inbox.store.list("manifests/", { limit: 1 })).toEqual([]);
      expect(await away.ledger()).toBe(1);
    } finally {
      postgres.set({});
      await away.close();
      await postgres.close();
    }
  });

  test("under a worker's hands, stays in the inbox until it is counted as the same upload", async () => {
    const { context } = world;
    const id = await put("a.txt", "bytes", { "Idempotency-Key": "k" });
    const first = (await context.inbox.find(id))!;
    const second = { ...first.manifest, accepted_by: "another", event_time: new Date(Date.now() + 1_000).toISOString() };
    await context.inbox.store.put("tallies/another", Buffer.from('{"files":1,"bytes":5}'));
    // Another worker finished in the meantime, and the id came back.
    const inbox: typeof context.inbox = { ...context.inbox, async findUndamaged(key) {
      const found = await context.inbox.find(key);
      await context.inbox.store.put(`manifests/${id}`, encodeRecord(second, first.bytes));
      return found;
    } };
    const settle = createSettle({ ...context, inbox, worker: "slow" });
    await settle([{ id: "1-1", key: id, body: "{}" }]);
    await tallied(1, 5);
    expect(await figures()).toEqual({ acknowledged: [2, 10], stored: [1, 5], inFlight: [1, 5] });
    await createSettle({ ...context, worker: "next" })([{ id: "1-2", key: id, body: "{}" }]);
    expect(await figures()).toEqual({ acknowledged: [1, 5], stored: [1, 5] });
    expect(await context.inbox.find(id)).toBeUndefined();
  });
});

describe("a loss is an alarm", () => {
  test.each([["small", "1234567"], ["large", large]])("when the manifest of a %s upload is taken away behind its back", async (_size, bytes) => {
    await put("kept.txt", "kept");
    const id = await put("lost.bin", bytes);
    await tallied(2, 4 + bytes.length);
    expect((await audit.read()).difference).toEqual({ files: 0, bytes: 0 });
    await world.context.inbox.store.remove([`manifests/${id}`]);
    const gone = { acknowledged: [2, 4 + bytes.length], difference: [1, bytes.length] };
    expect(await figures()).toEqual({ ...gone, inFlight: [1, 4] });
    await world.settleAll(); // a dead letter that has no bytes and no manifest makes nothing good
    expect(await world.sql("select code from dead_letters")).toEqual([{ code: "INBOX_ENTRY_MISSING" }]);
    expect(await figures()).toEqual({ ...gone, stored: [1, 4] });
    expect((await audit.read()).missing).toEqual([{ acceptedBy: world.context.name, files: 1, bytes: bytes.length }]);
    await eventually(async () => await (await fetch(`${world.url}/api/audit`)).json(), expect.objectContaining({ balanced: false, difference: { files: 1, bytes: bytes.length } }));
    const page = await (await fetch(`${world.url}/dashboard`)).text();
    expect(page).toMatch(/id="audit" data-level="bad"/);
    expect(page).not.toMatch(/<p data-well>/);

    expect((await fetch(`${world.url}/api/dead-letters/${id}`, { method: "DELETE" })).status).toBe(204); // somebody saw it, and writes it off
    expect(await figures()).toEqual({ acknowledged: [2, 4 + bytes.length], stored: [1, 4], discarded: [1, bytes.length] });
  });

  test("when one web process lost what another accepted", async () => {
    await world.context.inbox.store.put("tallies/another", Buffer.from('{"files":1,"bytes":7}'));
    await put("a.txt", "1234567");
    expect(await figures()).toMatchObject({ difference: [1, 7], acknowledged: [2, 14] });
  });

  test("when an upload's record can no longer be read", async () => {
    const id = await put("a.txt", "a");
    await tallied(1, 1);
    await world.context.inbox.store.put(`manifests/${id}`, Buffer.from("rotten"));
    expect(await figures()).toEqual({ acknowledged: [1, 1], difference: [1, 1] });
  });
});

describe("a surplus is an alarm", () => {
  const countOnceMore = (acceptedBy: string) => world.sql(
    `insert into acceptances (accepted_by, stored_files, stored_bytes) values ($1, 1, 5)
     on conflict (accepted_by) do update set stored_files = acceptances.stored_files + 1, stored_bytes = acceptances.stored_bytes + 5`, [acceptedBy]);
  const tally = (name: string, said: object) => world.context.inbox.store.put(`tallies/${name}`, Buffer.from(JSON.stringify(said)));

  test("when more is found of the process that reads than it ever accepted, on the dashboard as well", async () => {
    await put("a.txt", "12345");
    await world.settleAll();
    await tallied(1, 5);
    expect(await (await fetch(`${world.url}/api/audit`)).json()).toMatchObject({ tallied: { files: 1, bytes: 5 }, surplus: { files: 0, bytes: 0 }, balanced: true });
    await countOnceMore(world.context.name);
    await eventually(async () => await (await fetch(`${world.url}/api/audit`)).json(), expect.objectContaining({
      acknowledged: { files: 2, bytes: 10 }, tallied: { files: 1, bytes: 5 }, stored: { files: 2, bytes: 10 }, difference: { files: 0, bytes: 0 },
      surplus: { files: 1, bytes: 5 }, balanced: false,
    }));
    const page = await (await fetch(`${world.url}/dashboard`)).text();
    expect(page).toMatch(/id="audit" data-level="bad"/);
    expect(page).toMatch(/<p data-audit="surplus">The audit: more is found than was ever accepted/);
    expect(page).toMatch(/<p data-audit="missing" hidden>/);
    expect(page).not.toMatch(/<p data-well>/);
  });

  test("when more is found of a process that ended in order than its last tally has", async () => {
    await tally("ended", { files: 1, bytes: 5, closed: true });
    await countOnceMore("ended");
    expect(await audit.read()).toMatchObject({ surplus: { files: 0, bytes: 0 }, unaccounted: [] });
    await countOnceMore("ended");
    expect(await audit.read()).toMatchObject({ surplus: { files: 1, bytes: 5 }, difference: { files: 0, bytes: 0 }, unaccounted: [{ acceptedBy: "ended", files: 1, bytes: 5 }] });
  });

  test("and is not set off against what is missing of another", async () => {
    await tally("ended", { files: 0, bytes: 0, closed: true });
    await countOnceMore("ended");
    await tally("another", { files: 1, bytes: 5, closed: true });
    expect(await audit.read()).toMatchObject({ surplus: { files: 1, bytes: 5 }, difference: { files: 1, bytes: 5 }, tallied: { files: 1, bytes: 5 } });
  });

  test("but not of one that was killed, or runs elsewhere: its last second is not in its tally", async () => {
    await tally("killed", { files: 1, bytes: 5, closed: false });
    await countOnceMore("killed");
    await countOnceMore("killed");
    await countOnceMore("without a tally");
    expect(await audit.read()).toMatchObject({ surplus: { files: 0, bytes: 0 }, acknowledged: { files: 3, bytes: 15 }, tallied: { files: 1, bytes: 5 } });
  });

  test("but not where a process ended without knowing what came of a commit", async () => {
    await tally("ended", { files: 0, bytes: 0, unsure_files: 1, unsure_bytes: 5, closed: true });
    await countOnceMore("ended");
    expect(await audit.read()).toMatchObject({ surplus: { files: 0, bytes: 0 } });
  });

  test("but not of an upload whose commit was answered 503 although it was carried out, and whose sender came again", async () => {
    const { context } = world;
    const { put: store } = context.inbox.store;
    const answerIsLost = vi.spyOn(context.inbox.store, "put").mockImplementationOnce(async (...written) => {
      await store(...written);
      throw new Unavailable("inbox");
    });
    const headers = { "Idempotency-Key": "k" };
    expect((await world.put("a.txt", "12345", headers)).status).toBe(503);
    answerIsLost.mockRestore();
    await put("a.txt", "12345", headers);
    expect(await figures()).toEqual({ acknowledged: [1, 5], inFlight: [1, 5] });
    await world.settleAll();
    expect(await figures()).toEqual({ acknowledged: [1, 5], stored: [1, 5] });
  });
});

describe("a reading", () => {
  test("is shared by all who ask within a while", async () => {
    const { context } = world;
    let snapshots = 0;
    const db: typeof context.db = { ...context.db, transaction: (work) => (snapshots++, context.db.transaction(work)) };
    const shared = createAudit({ ...context, db, freshMs: 60_000 });
    const answers = await Promise.all(Array.from({ length: 100 }, () => shared.latest()));
    answers.push(await shared.latest());
    expect([snapshots, new Set(answers).size]).toEqual([1, 1]);
  });

  test("fetches each manifest once, and a lost one from the inbox itself before it says so", async () => {
    const { context } = world;
    for (let round = 0; round < 5; round++) { // all at once they could be more than one address may have under way
      await Promise.all(Array.from({ length: 50 }, (_, i) => put(`${round}-${i}.txt`, `${round} ${i}`)));
    }
    await eventually(async () => (await tallyOf(world))?.files, 250);
    let fetched = 0;
    const inbox: typeof context.inbox = { ...context.inbox, findManifest: (id) => (fetched++, context.inbox.findManifest(id)) };
    const counting = createAudit({ ...context, inbox });
    expect((await counting.read()).inFlight?.files).toBe(250);
    expect((await counting.read()).difference).toEqual({ files: 0, bytes: 0 });
    expect(fetched).toBe(250);
    const [first] = (await context.inbox.list(1)).waiting;
    await context.inbox.store.remove([`manifests/${first!.id}`]);
    expect((await counting.read()).difference?.files).toBe(1);
    expect((await counting.read()).difference?.files).toBe(1);
    expect(fetched).toBe(499);
  });

  test("says nothing about a difference when more waits than it may look at", async () => {
    await Promise.all(["a", "b", "c"].map((name) => put(name, name)));
    expect(await figures(createAudit({ ...world.context, mostWaiting: 2 }))).toEqual({ acknowledged: null, inFlight: null, difference: null, surplus: null });
    await world.settleAll();
    expect(await figures(createAudit({ ...world.context, mostWaiting: 2 }))).toEqual({ acknowledged: [3, 3], stored: [3, 3] });
  });

  test("is not to be had without the database, and the dashboard says so", async () => {
    const postgres = await throughFaultProxy(servers.pgUri());
    const away = await openWorld({}, { databaseHost: new URL(postgres.url).host });
    try {
      postgres.set({ down: true });
      const response = await fetch(`${away.url}/api/audit`);
      expect([response.status, (await response.json()).code]).toEqual([503, "UNAVAILABLE"]);
      const page = await fetch(`${away.url}/dashboard`);
      expect(page.status).toBe(200);
      expect(await page.text()).toMatch(/id="audit" data-level="unknown"/);
    } finally {
      postgres.set({});
      await away.close();
      await postgres.close();
    }
  });
});
