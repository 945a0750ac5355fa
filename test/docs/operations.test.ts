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

test("a dead letter is retried and discarded as the guide says, when what was wrong is right again", async () => {
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
    const section = GUIDE.slice(GUIDE.indexOf("## Dead letters"), GUIDE.indexOf("## Back-up"));
    const lines = [...section.matchAll(/^curl (?:-X (\w+) )?http:\/\/localhost:8080(\S+)$/gm)];
    const [list, retry, retryAll, discard] = lines.map(([, method = "GET", path]) => () => fetch(world.url + path!.replace("$ID", file_id), { method }));
    expect(lines).toHaveLength(4);
    expect(await status()).toBe("failed");
    expect(await (await list!()).json()).toMatchObject({ dead_letters: [{ id: file_id, file_name: "a.txt", code: "INBOX_ENTRY_MISSING" }] });
    world.setClock(new Date(Date.now() + 3_600_000));
    expect(await world.reconcile()).toMatchObject({ requeued: 0 });

    expect((await retry!()).status).toBe(202);
    await world.settleAll();
    expect(await status()).toBe("stored");
    expect(await (await list!()).json()).toEqual({ dead_letters: [], next_cursor: null });
    expect(await (await retryAll!()).json()).toEqual({ retried: 0, without_bytes: 0 });
    expect((await discard!()).status).toBe(404);
  } finally {
    await world.close();
  }
});
