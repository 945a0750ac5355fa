import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { createAudit } from "../../src/uploads/audit/audit.ts";
import { createAuditWatch } from "../../src/uploads/audit/audit-watch.ts";
import { insertSettled, type SettledRow } from "../../src/uploads/queries.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, tallyOf, type World } from "../support/world.ts";

let world: World;
let audit: ReturnType<typeof createAudit>;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
  audit = createAudit({ ...world.context, own: { acceptedBy: world.context.name, now: world.site.tallied } });
});
afterEach(() => world.close());

async function put(name: string, bytes: string | Uint8Array, headers?: Record<string, string>): Promise<void> {
  expect((await world.put(name, bytes, headers)).status).toBe(202);
}

test("the figures agree in every one of 200 readings while eight clients upload and a worker settles", async () => {
  let uploading = true;
  let sent = 0;
  const clients = Promise.all(Array.from({ length: 8 }, async (_, client) => {
    for (let i = 0; uploading; i++) {
      await put(`${client}-${i}.txt`, i % 20 === 0 ? Buffer.alloc(2_000, `${client}-${i}`) : `${client}-${i}`, i % 3 === 0 ? { "Idempotency-Key": `${client}-${i}` } : {});
      sent++;
    }
  }));
  const worker = (async () => {
    while (uploading) await world.settle();
  })();
  try {
    const readings = [];
    for (let reading = 0; reading < 200; reading++) readings.push(await audit.read());
    expect(readings.filter(({ missing, unaccounted }) => missing.length + unaccounted.length > 0)).toEqual([]);
  } finally {
    uploading = false;
    await Promise.all([clients, worker]);
  }
  await world.settleAll();
  await eventually(async () => (await tallyOf(world))?.files, sent);
  const { acknowledged, stored, difference } = await audit.read();
  expect([acknowledged!.files, stored.files, difference]).toEqual([sent, sent, { files: 0, bytes: 0 }]);
}, 60_000);

describe("whatever happens between two steps of every reading", () => {
  const steps = ["remembered", "tallies listed", "inbox listed", "manifest read", "outcomes read", "database read"] as const;
  let sent = { files: 0, bytes: 0 };
  beforeEach(() => {
    sent = { files: 0, bytes: 0 };
  });

  async function accept(name = "a.txt") {
    await put(name, "12345");
    sent = { files: sent.files + 1, bytes: sent.bytes + 5 };
    await world.context.inbox.store.put(`tallies/${world.context.name}`, Buffer.from(JSON.stringify(sent)));
  }

  const events: Record<string, () => Promise<unknown>> = {
    "an upload is accepted and tallied": () => accept(),
    "an upload is accepted, tallied and settled": () => accept().then(() => world.settleAll()),
    "what waits is settled, and the next upload accepted and tallied": () => world.settleAll().then(() => accept()),
    "an upload is accepted, tallied and remembered": async () => {
      await accept();
      await createAuditWatch({ ...world.context, audit: createAudit(world.context) }).runOnce();
    },
    "what waits fails for good": () => world.sql("alter table files add constraint never check (false) not valid").catch(() => {}).then(() => world.settleAll()),
    "what failed is discarded": async () => {
      for (const { id } of await world.sql<{ id: string }>("select upload_id as id from dead_letters")) await fetch(`${world.url}/api/dead-letters/${id}`, { method: "DELETE" });
    },
  };

  test.each(steps)("after: %s", async (step) => {
    const { context } = world;
    let event = "";
    const happens = (at: typeof steps[number] | undefined) => async <T>(result: T) => {
      if (at === step) await events[event]!();
      return result;
    };
    const { db, inbox } = context;
    const stepped = createAudit({
      ...context, own: { acceptedBy: context.name, now: () => ({ ...sent, unsure: { files: 0, bytes: 0 }, closed: false }) },
      db: {
        ...db, transaction: (work) => db.transaction((tx) => work({
          ...tx,
          query: (text, values) => tx.query(text, values).then(happens(text.includes("stored_files") ? "outcomes read" : undefined)) as never,
        })).then(happens("database read")),
      },
      inbox: {
        list: (limit, after) => inbox.list(limit, after).then(happens("inbox listed")),
        findManifest: (id) => inbox.findManifest(id).then(happens("manifest read")),
        // Before the tallies are listed: what happens may take longer than the reading waits for what the database remembers.
        store: { ...inbox.store, list: (prefix, options) => happens("remembered")(undefined).then(() => inbox.store.list(prefix, options)).then(happens("tallies listed")) },
      },
    });
    for (event of Object.keys(events)) {
      for (let reading = 0; reading < 2; reading++) {
        await accept();
        const { difference, surplus, acknowledged } = await stepped.read();
        expect([event, difference, surplus, acknowledged!.files <= sent.files]).toEqual([event, { files: 0, bytes: 0 }, { files: 0, bytes: 0 }, true]);
      }
    }
    expect((await audit.read()).acknowledged).toEqual(sent);
  });
});

test("workers that settle side by side count every file for who accepted it, and do not block each other for good", async () => {
  const row = (acceptedBy: string): SettledRow => ({
    upload_id: newId(), owner_id: "00000000-0000-8000-8000-000000000000", filename: "a", size_bytes: 7, sha256: "00".repeat(32), content_type: "text/plain",
    uploader_id: null, event_time: new Date().toISOString(), accepted_by: acceptedBy, storage_key: "k", stream_id: null,
  });
  const webs = Array.from({ length: 10 }, (_, i) => `web-${i}`);
  const batches = Array.from({ length: 40 }, (_, i) => Array.from({ length: 50 }, (_, j) => row(webs[(i % 2 === 0 ? j : 49 - j) % 10]!)));
  await Promise.all(batches.map((batch) => insertSettled(world.context.db, batch, "w")));
  await insertSettled(world.context.db, batches[0]!, "redelivered");
  expect(await world.sql("select accepted_by, stored_files, stored_bytes from acceptances order by accepted_by"))
    .toEqual(webs.map((accepted_by) => ({ accepted_by, stored_files: 200, stored_bytes: 1_400 })));
});
