import { afterAll, beforeAll, expect, test } from "vitest";
import { deadLettersIn } from "../support/dead-letters.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
  for (const [name, uploaderId] of [["Report 2025.pdf", "Ada"], ["100%_done.txt", "bob"], ["under_score.txt", "ADA lovelace"], ["plain.txt", "o'hara"]]) {
    await world.upload("bytes of " + name, { name: name!, uploaderId: uploaderId! });
  }
  await world.settleAll();
  const letters = deadLettersIn(() => world);
  await letters.makeDead(2, "refused");
  await letters.allow();
  await world.put("waiting-report.txt", "waits", { "X-Uploader-Id": "Ada" });
});
afterAll(() => world.close());

async function search(query: Record<string, string | number>) {
  const response = await fetch(`${world.url}/api/files?${new URLSearchParams(query as Record<string, string>)}`);
  return { status: response.status, ...(await response.json()) };
}
const names = async (query: Record<string, string | number>) => (await search(query)).files.map(({ name }: { name: string }) => name);

test.each([
  ["report", ["Report 2025.pdf"]], ["ADA", ["under_score.txt", "Report 2025.pdf"]], ["%", ["100%_done.txt"]], ["_", ["under_score.txt", "100%_done.txt"]],
  ["o'hara", ["plain.txt"]], ["\\", []], ["%txt", []], ["", ["plain.txt", "under_score.txt", "100%_done.txt", "Report 2025.pdf"]], ["  report ", ["Report 2025.pdf"]],
])("q=%s finds what has just that in its name or its sender, in capitals or not", async (q, found) => {
  expect(await names({ q })).toEqual(found);
});

test("status chooses what waits, what failed, or all, newest first, each with its status and why it failed", async () => {
  expect(await names({ status: "stored" })).toHaveLength(4);
  expect((await search({ status: "waiting" })).files).toMatchObject([{ name: "waiting-report.txt", status: "accepted", uploader_id: "Ada", stored_at: null, reason: null }]);
  const failed = await search({ status: "failed" });
  expect(failed.files).toMatchObject([{ name: "bad-1.bin", status: "failed", reason: expect.stringContaining("refused") }, { name: "bad-0.bin", status: "failed" }]);
  expect(failed.next_cursor).toBeNull();
  expect(await names({ status: "any" })).toEqual(["waiting-report.txt", "bad-1.bin", "bad-0.bin", "plain.txt", "under_score.txt", "100%_done.txt", "Report 2025.pdf"]);
  expect(await names({ status: "any", q: "report" })).toEqual(["waiting-report.txt", "Report 2025.pdf"]);
});

test("all of them come page by page, each once", async () => {
  const seen: string[] = [];
  for (let cursor = ""; ;) {
    const page = await search({ status: "any", limit: 2, ...(cursor && { cursor }) });
    expect(page.files.length).toBeLessThanOrEqual(2);
    seen.push(...page.files.map(({ name }: { name: string }) => name));
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  expect(seen).toEqual(await names({ status: "any" }));
});

test("a search looks through so many files a page and goes on behind them, and so finds the oldest of many", async () => {
  await world.sql(`insert into files (id, owner_id, name, size_bytes, sha256, content_type, storage_key, event_time)
    select overlay(gen_random_uuid()::text placing '8' from 15 for 1)::uuid, '00000000-0000-8000-8000-000000000000', 'filler-' || g, 1, decode(repeat('00', 32), 'hex'), 'text/plain', 'k', now() + g * interval '1 millisecond'
    from generate_series(1, 25000) g`);
  const first = await search({ q: "report 2025" });
  expect([first.files, first.next_cursor]).toEqual([[], expect.any(String)]);
  const second = await search({ q: "report 2025", cursor: first.next_cursor });
  expect([second.files.map(({ name }: { name: string }) => name), second.next_cursor]).toEqual([["Report 2025.pdf"], null]);
  await world.sql("delete from files where name like 'filler-%'");
});

test.each([["status", "lost"], ["q", "x".repeat(201)], ["q", "a\u0000b"]])("%s=%s is refused by name", async (parameter, value) => {
  expect(await search({ [parameter]: value })).toMatchObject({ status: 400, code: "INVALID_QUERY", error: expect.stringContaining(parameter) });
});

test("the page shows what is searched for without a script, and the way to what is older", async () => {
  const page = await (await fetch(`${world.url}/dashboard?q=report&status=any`)).text();
  expect(page).toContain("waiting-report.txt");
  expect(page).toContain("Report 2025.pdf");
  expect(page).not.toContain("plain.txt");
  expect(page).toMatch(/<option value="any" selected>/);
  expect(page).toContain('value="report"');
  expect((await fetch(`${world.url}/dashboard?status=lost`)).status).toBe(400);
  const harmful = await (await fetch(`${world.url}/dashboard?q=${encodeURIComponent('"><script>alert(1)</script>')}`)).text();
  expect(harmful).toContain("Nothing is found");
  expect(harmful).not.toContain("<script>alert");
});
