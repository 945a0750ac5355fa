import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openWorld } from "../support/world.ts";

const ROOT = join(import.meta.dirname, "../..");
const GUIDE = readFileSync(join(ROOT, "docs/operations.md"), "utf8");
const SOURCES = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))
  .map((name) => readFileSync(join(ROOT, "src", name), "utf8"));

test("every message that is logged is explained, and no other", () => {
  const logged = SOURCES.flatMap((text) => [...text.matchAll(/\blog(?:\.\w+|\[[^\]\n]+\])\((?:[^"\n]*, )?"([^"\n]+)"\)/g)].map(([, message]) => message!));
  const table = GUIDE.slice(GUIDE.indexOf("## The log"), GUIDE.indexOf("## Trouble at the start"));
  const cells = [...table.matchAll(/^\| ([^|]+) \| (?:debug|info|warn|error)/gm)].map(([, cell]) => cell!.trim());
  const explained = cells.flatMap((cell) => (logged.includes(cell) ? [cell] : cell.split(", ")));
  expect(new Set(explained)).toEqual(new Set(logged));
  expect(logged.length).toBeGreaterThan(20);
});

test("every reason of a dead letter is explained", () => {
  const codes = SOURCES.flatMap((text) => [...text.matchAll(/new ItemTrouble\((?:code|"([A-Z_]+)")/g)].flatMap(([, code]) => code ?? "SETTLE_FAILED"));
  const section = GUIDE.slice(GUIDE.indexOf("## Dead letters"), GUIDE.indexOf("## Back-up"));
  const explained = [...section.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, code]) => code);
  expect(new Set(explained)).toEqual(new Set(codes));
});

test("a dead letter whose row is removed, as the guide says, is settled when what was wrong is right again", async () => {
  const world = await openWorld();
  try {
    const { file_id } = (await (await world.put("a.txt", "the right bytes")).json()) as { file_id: string };
    // As a worker would see it that looks into another inbox.
    const { store } = world.context.inbox;
    const record = (await store.readWhole(`manifests/${file_id}`))!.slice();
    await store.remove([`manifests/${file_id}`]);
    for (let attempt = 0; attempt < 3; attempt++) await world.settle();
    await store.put(`manifests/${file_id}`, record);
    const status = async () => ((await (await fetch(`${world.url}/api/files/${file_id}/status`)).json()) as { status: string }).status;
    expect(await status()).toBe("failed");
    expect(await world.sql("select upload_id, code from dead_letters")).toEqual([{ upload_id: file_id, code: "INBOX_ENTRY_MISSING" }]);
    world.setClock(new Date(Date.now() + 3_600_000));
    expect(await world.reconcile()).toMatchObject({ requeued: 0 });

    const [, statement] = /^(delete from dead_letters where upload_id = )/m.exec(GUIDE)!;
    await world.sql(`${statement} $1`, [file_id]);
    expect(await world.reconcile()).toMatchObject({ requeued: 1 });
    await world.settleAll();
    expect(await status()).toBe("stored");
    const [, query] = /^(select upload_id.* from dead_letters.*);$/m.exec(GUIDE)!;
    expect(await world.sql(query!)).toEqual([]);
  } finally {
    await world.close();
  }
});
