import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createAudit } from "../../src/uploads/audit/audit.ts";
import { createAuditWatch } from "../../src/uploads/audit/audit-watch.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, tallyOf, type World } from "../support/world.ts";

let world: World;
let runOnce: () => Promise<boolean>;
let errors: ReturnType<typeof vi.spyOn>;
let infos: ReturnType<typeof vi.spyOn>;
beforeEach(async () => {
  world = await openWorld();
  const { context } = world;
  ({ runOnce } = createAuditWatch({ ...context, audit: createAudit(context) }));
  errors = vi.spyOn(context.log, "error");
  infos = vi.spyOn(context.log, "info");
});
afterEach(() => world.close());

const later = () => world.setClock(new Date(Date.now() + 3_600_000));

async function put(name: string, bytes: string): Promise<string> {
  return (await (await world.put(name, bytes)).json()).file_id;
}

/** Whatever is in the inbox, tallies and all. */
async function emptyInbox() {
  const { store } = world.context.inbox;
  await store.remove((await store.list("", { limit: 1_000 })).map(({ key }) => key));
}

async function tallyWritten(files: number) {
  await eventually(async () => (await tallyOf(world))?.files, files);
}

describe("the watch", () => {
  test("says once what is missing, and once when a person has written it off as the guide tells", async () => {
    const id = await put("lost.txt", "12345");
    await tallyWritten(1);
    await runOnce();
    expect(errors).not.toHaveBeenCalled();
    await world.context.inbox.store.remove([`manifests/${id}`]);
    for (let i = 0; i < 3; i++) {
      later();
      await runOnce();
    }
    expect(errors.mock.calls).toEqual([[{ files: 1, bytes: 5, missing: [{ acceptedBy: world.context.name, files: 1, bytes: 5 }] }, "acknowledged uploads are missing"]]);

    const guide = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
    const [, statement = ""] = /```sql\n(insert into acceptances[\s\S]*?)```/.exec(guide) ?? [];
    await world.sql(statement.replace(/'web-1-4711-3f2a91'/, `'${world.context.name}'`).replace(/, 1, 48000\)/, ", 1, 5)"));
    world.setClock(new Date(Date.now() + 7_200_000));
    await runOnce();
    await runOnce();
    expect(errors).toHaveBeenCalledTimes(1);
    expect(infos.mock.calls.filter(([message]: unknown[]) => message === "no acknowledged upload is missing any more")).toHaveLength(1);
  });

  test("says once what is too much, and once when a person has taken back what was written off and found after all", async () => {
    await world.context.inbox.store.put("tallies/ended", Buffer.from('{"files":1,"bytes":5,"closed":true}'));
    await world.sql("insert into acceptances (accepted_by, stored_files, stored_bytes, discarded_files, discarded_bytes) values ('ended', 1, 5, 1, 5)");
    for (let i = 0; i < 3; i++) {
      later();
      await runOnce();
    }
    expect(errors.mock.calls).toEqual([[{ files: 1, bytes: 5, surplus: [{ acceptedBy: "ended", files: 1, bytes: 5 }] }, "more uploads are found than were accepted"]]);
    await world.sql("update acceptances set discarded_files = 0, discarded_bytes = 0");
    world.setClock(new Date(Date.now() + 7_200_000));
    await runOnce();
    expect(errors).toHaveBeenCalledTimes(1);
    expect(infos.mock.calls.filter(([message]: unknown[]) => message === "no more uploads are found than were accepted")).toHaveLength(1);
  });

  test("remembers the tallies, so that the loss of a whole inbox is seen", async () => {
    await Promise.all(["a", "b", "c"].map((name) => put(name, name)));
    await world.settle();
    await put("d", "dd");
    await tallyWritten(4);
    expect(await runOnce()).toBe(true);
    await emptyInbox();
    expect((await createAudit(world.context).read()).difference).toEqual({ files: 1, bytes: 2 });
  });

  test("sees nothing wrong in an inbox that was lost when nothing waited in it, nor in one that is new", async () => {
    await Promise.all(["a", "b", "c"].map((name) => put(name, name)));
    await world.settleAll();
    await tallyWritten(3);
    await runOnce();
    await emptyInbox();
    expect(await createAudit(world.context).read()).toMatchObject({ difference: { files: 0 }, acknowledged: { files: 3 } });
  });

  test("is one process's business at a time, and rests after a reading that took long", async () => {
    let release!: () => void;
    const held = new Promise<void>((resolve) => (release = resolve));
    let locked!: () => void;
    const isLocked = new Promise<void>((resolve) => (locked = resolve));
    const other = world.context.db.exclusively("connectstorm:audit", async () => {
      locked();
      await held;
    });
    await isLocked;
    expect(await runOnce()).toBe(false);
    release();
    await other;
    world.setClock(new Date());
    expect(await runOnce()).toBe(true);
    expect(await runOnce()).toBe(false);
    later();
    expect(await runOnce()).toBe(true);
  });
});
