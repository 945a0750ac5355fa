import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createReconcile } from "../../src/uploads/reconcile.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { expectRefusal, connectRaw, inboxOf } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

/** Interleavings that the model (test/faults/model.test.ts) found, played out in the code. */

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const HOUR_MS = 3_600_000;
const OWNER = "00000000-0000-8000-8000-000000000000";
const SECOND = { sha256: "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4", bytes: Buffer.from("second") };

type Inbox = World["context"]["inbox"];

async function entries() {
  return (await world.redis.xrange(world.stream, "-", "+")).map(([id, [, key, , body]]) => ({ id, key: key!, body: body! }));
}

function settler(worker: string, change: Partial<Parameters<typeof createSettle>[0]> = {}) {
  const { db, inbox, storage, log } = world.context;
  return createSettle({ db, inbox, storage, worker, log, ...change });
}

describe("other bytes that come in under an Idempotency-Key while the database is away and the first are just being removed", () => {
  /** An inbox whose owner stands still before it removes; meanwhile another process removes, and the other bytes come in. */
  function overtaken(): Inbox {
    const { inbox } = world.context;
    return {
      ...inbox,
      async remove(settled) {
        const id = settled[0]!.upload_id;
        await inbox.store.remove([`manifests/${id}`]);
        await inbox.commit(
          { upload_id: id, owner_id: OWNER, filename: "b.txt", size_bytes: 6, content_type: "text/plain", sha256: SECOND.sha256, uploader_id: null, event_time: new Date().toISOString(), accepted_by: "w" },
          { sizeBytes: 6, sha256: SECOND.sha256, sniffedType: undefined, bytes: SECOND.bytes, blobKey: null });
        await inbox.remove(settled);
      },
    };
  }

  test.each([["small", "first"], ["large", Buffer.alloc(5_000, "first ")]])("stay when the worker goes on (the first were %s)", async (_size, bytes) => {
    const { file_id } = await (await world.put("a.txt", bytes, { "Idempotency-Key": "k" })).json();
    await settler("slow", { inbox: overtaken() })(await entries());
    expect((await world.context.inbox.find(file_id))?.manifest.filename).toBe("b.txt");
    expect(await inboxOf(world)).toEqual([`manifests/${file_id}`]);
    await world.settleAll(); // the first entry again: now the other bytes are under it
    expect(await world.sql("select code from dead_letters")).toEqual([{ code: "IDEMPOTENCY_KEY_REUSED" }]);
    expect(await world.ledger()).toBe(1);
  });

  test("stay when the reconciler goes on", async () => {
    const { file_id } = await (await world.put("a.txt", "first", { "Idempotency-Key": "k" })).json();
    await expect(settler("dies", { inbox: { ...world.context.inbox, remove: async () => { throw new Error("crash"); } } })(await entries())).rejects.toThrow("crash");
    const { db, redis, stream, log } = world.context;
    const clock = { now: () => new Date(Date.now() + HOUR_MS) };
    await createReconcile({ db, inbox: overtaken(), redis, stream, ageMs: 1_000, orphanAgeMs: 24 * HOUR_MS, clock, log }).runOnce();
    expect((await world.context.inbox.find(file_id))?.manifest.filename).toBe("b.txt");
  });
});

describe("a worker that stood still while others settled its batch", () => {
  test("counts no failure for an upload whose blob is no longer in the inbox", async () => {
    const { file_id } = await (await world.put("a.bin", Buffer.alloc(5_000, "large "))).json();
    const batch = await entries();
    const { storage } = world.context;
    let settled = false;
    const slow = settler("slow", {
      storage: {
        ...storage,
        async head() {
          if (!settled) await settler("quick")(batch);
          settled = true;
          return undefined; // as it was before
        },
      } as typeof storage,
    });
    expect(await slow(batch)).toEqual(new Set());
    expect(await world.ledger()).toBe(1);
    expect(await world.sql("select * from settle_attempts where upload_id = $1", [file_id])).toEqual([]);
  });

  test("makes no dead letter of a file, as one of three that did", async () => {
    const { file_id } = await (await world.put("a.bin", Buffer.alloc(5_000, "large "))).json();
    const batch = await entries();
    const { storage } = world.context;
    let standing = 0;
    let goOn!: () => void;
    const settled = new Promise<void>((resolve) => (goOn = resolve));
    const slow = { ...storage, async head() {
      if (++standing === 3) {
        await settler("quick")(batch);
        goOn();
      }
      await settled;
      return undefined;
    } } as typeof storage;
    await Promise.all(["one", "two", "three"].map((name) => settler(name, { storage: slow })(batch)));
    expect(await world.sql("select * from dead_letters")).toEqual([]);
    expect((await (await fetch(`${world.url}/api/files/${file_id}/status`)).json()).status).toBe("stored");
  });
});

describe("a form that goes on for so long after its file that the file's bytes may be swept is not promised any more", () => {
  test("as a new upload", async () => {
    await sendLate("");
    await eventually(() => inboxOf(world), []);
  });

  test("in the place of lost bytes", async () => {
    const { file_id: id } = await (await world.put("a.bin", "x".repeat(5_000), { "Idempotency-Key": "k" })).json();
    await world.context.inbox.store.remove([(await world.context.inbox.find(id))!.manifest.blob_key!]);
    await world.settleAll();
    await sendLate("Idempotency-Key: k\r\n");
    expect(await world.sql("select upload_id, code from dead_letters")).toEqual([{ upload_id: id, code: "INBOX_BLOB_MISSING" }]);
    await eventually(() => inboxOf(world), [`manifests/${id}`]);
  });
});

/** A form with a file of 5,000 bytes, whose end comes half a day later. */
async function sendLate(header: string): Promise<void> {
  const { mock } = vi.spyOn(world.context.inbox.store, "put");
  const connection = connectRaw(world.url);
  await connection.send(`POST /api/upload HTTP/1.1\r\nHost: x\r\n${header}Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const say = (text: string) => connection.send(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
  await say(`--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n${"x".repeat(5_000)}\r\n--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nslow`);
  const blobs = () => mock.settledResults.filter((_result, call) => mock.calls[call]![0].startsWith("blobs/")); // a tally may be written, too
  await eventually(() => blobs().map(({ type }) => type), ["fulfilled"]);
  world.setClock(new Date(Date.now() + 13 * HOUR_MS)); // ORPHAN_AGE_SECONDS is a day
  await say("ly\r\n--b--\r\n");
  await connection.send("0\r\n\r\n");
  expectRefusal(await connection.answer(), "UNAVAILABLE");
  connection.close();
}
