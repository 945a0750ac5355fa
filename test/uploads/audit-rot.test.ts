import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openSite } from "../../src/main/site.ts";
import { Damaged } from "../../src/objects/object-store.ts";
import { createAudit, describeAudit } from "../../src/uploads/audit/audit.ts";
import { createAuditWatch } from "../../src/uploads/audit/audit-watch.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, tallyOf, type World } from "../support/world.ts";

const ROOT = join(import.meta.dirname, "../..");

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

const put = (key: string, text: string) => world.context.inbox.store.put(key, Buffer.from(text));
const ask = async () => (await fetch(`${world.url}/api/audit`)).json();

describe("a tally that cannot be read", () => {
  /** What another process counted, and what became of it; the database remembers the first as the worker's last look left it. */
  async function anotherCounted(files: number, { stored }: { stored: number }) {
    await world.sql(`insert into acceptances (accepted_by, acknowledged_files, acknowledged_bytes, stored_files, stored_bytes)
      values ('another', $1::int, $1::int * 5, $2::int, $2::int * 5)`, [files, stored]);
  }

  test("counts as what was last remembered of it: the audit goes on, and says that it cannot be sure", async () => {
    await anotherCounted(2, { stored: 2 });
    await put("tallies/another", "rotten");
    expect(await ask()).toEqual(expect.objectContaining({
      balanced: null, unreadable_tallies: 1, tallied: { files: 2, bytes: 10 }, acknowledged: { files: 2, bytes: 10 }, difference: { files: 0, bytes: 0 },
    }));
    const response = await fetch(`${world.url}/dashboard`);
    const page = await response.text();
    expect(response.status).toBe(200);
    expect(page).toMatch(/id="audit" data-level="unknown"/);
    expect(page).toMatch(/<p data-audit="unreadable">The audit: nothing is known to be missing, but a tally cannot be read/);
    expect(page).not.toMatch(/<p data-well>/);
    expect(page).toMatch(/<p data-unsure>/);

    await put("tallies/another", '{"files":2,"bytes":10}'); // its process goes on counting
    await eventually(ask, expect.objectContaining({ balanced: true, unreadable_tallies: 0 }), 25_000); // a reading is kept for 25 times what it took
  });

  test("does not hide what is missing of it, as far as it is remembered", async () => {
    await anotherCounted(2, { stored: 1 });
    await put("tallies/another", '{"files":"2"}');
    expect(await ask()).toMatchObject({ balanced: false, unreadable_tallies: 1, difference: { files: 1, bytes: 5 } });
    expect(await (await fetch(`${world.url}/dashboard`)).text()).toMatch(/id="audit" data-level="bad"/);
  });

  test("is told once by the worker, which goes on telling what others lost", async () => {
    const { context } = world;
    const errors = vi.spyOn(context.log, "error");
    const infos = vi.spyOn(context.log, "info");
    const { runOnce } = createAuditWatch({ ...context, audit: createAudit(context) });
    const look = () => (world.setClock(new Date(Date.now() + ++looks * 3_600_000)), runOnce());
    let looks = 0;
    await put("tallies/rotten", "");
    await look();
    await look();
    const said = [{ unreadable: ["rotten"] }, "tallies cannot be read"];
    expect(errors.mock.calls).toEqual([said]);
    await put("tallies/another", '{"files":1,"bytes":7}');
    await look();
    await look();
    expect(errors.mock.calls).toEqual([said, [{ files: 1, bytes: 7, missing: [{ acceptedBy: "another", files: 1, bytes: 7 }] }, "acknowledged uploads are missing"]]);
    await put("tallies/rotten", '{"files":0,"bytes":0}');
    await look();
    expect(errors).toHaveBeenCalledTimes(2);
    expect(infos.mock.calls).toEqual([["all tallies can be read again"]]);
  });

  test("is taken out as the guide tells, and what was remembered stands for it", async () => {
    await anotherCounted(2, { stored: 2 });
    await put("tallies/another", "rotten");
    const look = async () => describeAudit(await createAudit(world.context).read());
    expect(await look()).toMatchObject({ balanced: null });
    const guide = readFileSync(join(ROOT, "docs/operations.md"), "utf8");
    const [, command = ""] = /```sh\n(node --input-type=module[\s\S]*?)```/.exec(guide) ?? [];
    await promisify(execFile)("sh", ["-c", command.replace("web-1-4711-3f2a91", "another")], { cwd: ROOT, env: { ...process.env, INBOX_DIR: world.config.INBOX_DIR } });
    expect(await look()).toMatchObject({ balanced: true, unreadable_tallies: 0, tallied: { files: 2, bytes: 10 } });
  });

  test("is one where the store itself says so, too", async () => {
    await put("tallies/another", '{"files":1,"bytes":5}');
    const { store } = world.context.inbox;
    const damaged: typeof store = { ...store, readWhole: (key) => (key.startsWith("tallies/") ? Promise.reject(new Damaged("unreadable", "EIO")) : store.readWhole(key)) };
    const audit = await createAudit({ ...world.context, inbox: { ...world.context.inbox, store: damaged } }).read();
    expect(audit).toMatchObject({ unreadable: ["another"], difference: { files: 0, bytes: 0 } });
  });
});

describe("a record that rotted, and that its sender replaced under the same Idempotency-Key", () => {
  const headers = { "Idempotency-Key": "k" };
  let close: () => Promise<void>;
  let other: string;
  /** What a second web process is to the first: the same inbox, stream and database, and a name and a tally of its own. */
  beforeEach(async () => {
    const site = await openSite({ ...world.context, name: "other" });
    other = site.url();
    close = () => site.stop();
  });
  afterEach(() => close());

  const send = async (url: string, name: string, bytes: string, idempotent = headers) => {
    const response = await fetch(`${url}/api/upload/${name}`, { method: "PUT", body: bytes, headers: idempotent });
    expect(response.status).toBe(202);
    return (await response.json()).file_id as string;
  };
  const tallied = (files: number, bytes: number) => eventually(() => tallyOf(world), { files, bytes });
  const look = async () => describeAudit(await createAudit(world.context).read());
  const NONE = { files: 0, bytes: 0 };
  const ONE = { files: 1, bytes: 5 };
  const rot = (id: string) => put(`manifests/${id}`, "rotten");

  async function replacedAt(url: string): Promise<string> {
    const id = await send(world.url, "a.txt", "12345");
    await tallied(1, 5);
    await rot(id);
    expect(await look()).toMatchObject({ balanced: false, difference: ONE });
    expect(await send(url, "a.txt", "12345")).toBe(id);
    return id;
  }

  test("at another process than had counted it, is one upload, while it waits and when it is stored", async () => {
    await replacedAt(other);
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, tallied: ONE, in_flight: ONE });
    await world.settleAll();
    await close(); // its last word: it accepted nothing
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, tallied: ONE, stored: ONE });
  });

  test("at the same process, is one upload too", async () => {
    await replacedAt(world.url);
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, tallied: ONE, in_flight: ONE });
    expect(world.site.tallied()).toMatchObject({ ...ONE, unsure: NONE });
    await world.settleAll();
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, stored: ONE });
  });

  test("that rots again and is replaced again is still one upload", async () => {
    await rot(await replacedAt(other));
    await send(other, "a.txt", "12345");
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, in_flight: ONE });
  });

  test("hides no more of what is missing than was replaced", async () => {
    const { context } = world;
    const errors = vi.spyOn(context.log, "error");
    await replacedAt(other);
    await put("tallies/another", '{"files":1,"bytes":7}');
    expect(await look()).toMatchObject({ balanced: false, difference: { files: 1, bytes: 7 }, acknowledged: { files: 2, bytes: 12 } });
    await createAuditWatch({ ...context, audit: createAudit(context) }).runOnce();
    const missing = expect.arrayContaining([{ acceptedBy: "another", files: 1, bytes: 7 }, { acceptedBy: context.name, ...ONE }]);
    expect(errors.mock.calls).toEqual([[{ files: 1, bytes: 7, missing, replaced: ONE }, "acknowledged uploads are missing"]]);
  });

  test("is missing when it is lost after that", async () => {
    await world.context.inbox.store.remove([`manifests/${await replacedAt(other)}`]);
    expect(await look()).toMatchObject({ balanced: false, difference: ONE, acknowledged: ONE });
  });

  test("excuses no surplus of the process that replaced it", async () => {
    await replacedAt(other);
    await send(other, "b.txt", "1234567", { "Idempotency-Key": "b" });
    await close();
    expect(await look()).toMatchObject({ balanced: true, surplus: NONE });
    await world.sql("insert into acceptances (accepted_by, stored_files, stored_bytes) values ('other', 1, 5)");
    expect(await look()).toMatchObject({ balanced: false, surplus: ONE, difference: NONE });
  });

  test("is one upload, too, where it had become a dead letter of which nothing is known", async () => {
    const id = await send(world.url, "a.txt", "12345");
    await tallied(1, 5);
    await rot(id);
    await world.redis.del(world.stream);
    for (let attempt = 0; attempt < 3; attempt++) {
      await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
      await world.settle();
    }
    expect(await world.sql("select code, message from dead_letters")).toEqual([{ code: "INBOX_RECORD_DAMAGED", message: null }]);
    expect(await look()).toMatchObject({ balanced: false, difference: ONE });
    expect(await send(other, "a.txt", "12345")).toBe(id);
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, in_flight: ONE });
    await world.settleAll();
    await close();
    expect(await look()).toMatchObject({ balanced: true, acknowledged: ONE, stored: ONE });
  });
});
