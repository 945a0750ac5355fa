import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ADVISED_CODES } from "../../src/uploads/dead-letters/dead-letter-advice.ts";
import { openBrowser } from "../support/browser.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

let browser: Browser;
let world: World;
let page: Page;
beforeAll(async () => {
  browser = await openBrowser();
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterAll(async () => {
  await browser.close();
  await world.close();
});
beforeEach(async () => {
  page = await browser.newPage();
  await page.setJavaScriptEnabled(false);
});
afterEach(async () => {
  await page.close();
  await world.sql("delete from dead_letters");
});

/** Uploads that the database refuses while this runs, and would take afterwards. */
async function makeDead(...names: string[]): Promise<string[]> {
  await world.sql("alter table files add constraint refused check (false) not valid");
  const ids: string[] = [];
  for (const name of names) ids.push((await (await world.put(name, `bytes of ${name}`, { "X-Uploader-Id": "station-7" })).json()).file_id);
  await world.settleAll();
  await world.sql("alter table files drop constraint refused");
  return ids;
}

const text = () => page.$eval("main", (element) => element.textContent!.replace(/\s+/g, " "));
const names = () => page.$$eval(".letter h2", (found) => found.map((element) => element.textContent));
async function press(selector: string): Promise<void> {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
}
const letter = (id: string | undefined) => `[id="${id}"]`;

describe("a person, without JavaScript,", () => {
  test("sees what failed, why, and what to do", async () => {
    const [id] = await makeDead("report.pdf");
    await page.goto(`${world.url}/dead-letters`);
    const said = await text();
    for (const part of ["report.pdf", "19 bytes", "from station-7", "3 attempts", "The database or the storage refused it.", "retry", "refused", id!]) expect(said).toContain(part);
    expect(said).toMatch(/failed \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/);
  });

  test("retries one, is told so, and gets to its receipt", async () => {
    const [first, second] = await makeDead("a.txt", "b.txt");
    await page.goto(`${world.url}/dead-letters`);
    await press(`${letter(first)} button`);
    expect(new URL(page.url()).search).toBe(`?done=retried&id=${first}`);
    expect(await text()).toContain("Queued again");
    expect(await names()).toEqual(["b.txt"]);
    await world.settleAll();
    await press(".state a");
    expect(await page.$eval("h1", (element) => element.textContent)).toBe("Stored, and in the ledger.");
    expect(await world.sql("select upload_id from dead_letters")).toEqual([{ upload_id: second }]);
  });

  test("retries all, and is told how many could not be", async () => {
    const ids = await makeDead("a.txt", "b.txt", "c.txt");
    await world.context.inbox.store.remove([`manifests/${ids[1]}`]);
    await page.goto(`${world.url}/dead-letters`);
    await press(".all button");
    expect(await text()).toContain("2 uploads are queued again, with three new attempts. One upload was left as it is: its bytes are no longer in the inbox.");
    expect(await names()).toEqual(["b.txt"]);
    expect(await page.$(`${letter(ids[1])} button`)).toBeNull(); // there is nothing to retry
    await world.settleAll();
  });

  test("is asked before an upload is thrown away, and can keep it", async () => {
    const [id] = await makeDead("a.txt");
    await page.goto(`${world.url}/dead-letters`);
    await press(`${letter(id)} .actions a`);
    expect(await text()).toMatch(/Discard this upload\? a\.txt .*cannot be undone/);
    await press(".actions a");
    expect(await names()).toEqual(["a.txt"]);
    await press(`${letter(id)} .actions a`);
    await press("form button");
    expect(new URL(page.url()).search).toBe("?done=discarded");
    expect(await text()).toContain("Discarded.");
    expect(await names()).toEqual([]);
    expect(await world.context.inbox.find(id!)).toBeUndefined();
  });

  test("is told when somebody else was quicker", async () => {
    const [a, b] = await makeDead("a.txt", "b.txt");
    await page.goto(`${world.url}/dead-letters`);
    await fetch(`${world.url}/api/dead-letters/${a}`, { method: "DELETE" });
    await world.context.inbox.store.remove([`manifests/${b}`]);
    await press(`${letter(a)} button`);
    expect(await text()).toContain("It was no longer here");
    const response = await fetch(`${world.url}/dead-letters/${b}/retry`, { method: "POST", redirect: "manual" });
    expect([response.status, response.headers.get("location")]).toEqual([303, "/dead-letters?done=without-bytes"]);
  });

  test("leafs through many, and stays on the page where something was done", async () => {
    await world.sql(`insert into dead_letters (upload_id, owner_id, file_name, attempts, code, reason, first_failed_at, failed_at)
      select ('01a1f8a3-a4f8-7636-a6e0-' || lpad(i::text, 12, '0'))::uuid, '00000000-0000-8000-8000-000000000000', 'f' || i, 3, 'SETTLE_FAILED', 'x', now(), now() - i * interval '1 s'
      from generate_series(1, 60) as i`);
    await page.goto(`${world.url}/dead-letters`);
    expect(await names()).toEqual(Array.from({ length: 25 }, (_, i) => `f${i + 1}`));
    await press("[rel=next]");
    expect(await names()).toEqual(Array.from({ length: 25 }, (_, i) => `f${i + 26}`));
    const second = new URL(page.url()).searchParams.get("cursor");
    await press(".letter .actions a");
    await press("form button");
    expect(new URL(page.url()).searchParams.get("cursor")).toBe(second);
    expect((await names())[0]).toBe("f27");
    await press("[rel=next]");
    expect(await names()).toEqual(Array.from({ length: 9 }, (_, i) => `f${i + 52}`));
    expect(await page.$("[rel=next]")).toBeNull();
  });

  test("sees nothing but good news where nothing failed", async () => {
    const response = (await page.goto(`${world.url}/dead-letters`))!;
    expect([response.status(), response.headers()["cache-control"]]).toEqual([200, "no-store"]);
    expect(await text()).toContain("No dead letters");
    expect(await page.$("form")).toBeNull();
  });

  test("finds the way from the dashboard and from a failed upload's receipt", async () => {
    const [id] = await makeDead("a.txt");
    for (const path of ["/dashboard", `/upload/${id}`]) {
      await page.goto(world.url + path);
      await press("main a[href^='/dead-letters']");
      expect(await names()).toEqual(["a.txt"]);
    }
  });
});

test("names that mean harm, run from right to left or never end are shown as they are, in 360 pixels, under the strict policy", async () => {
  const odd = ['"><script>alert(1)<script>.txt', "تقرير الطقس.pdf", `${"long-name-".repeat(24)}.txt`, "⚡️ storm 🎉.png"];
  const [id] = await makeDead(...odd);
  await page.setViewport({ width: 360, height: 740 });
  for (const path of ["/dead-letters", `/dead-letters/${id}/discard`]) {
    const response = (await page.goto(world.url + path))!;
    const width = await page.$eval("html", (element) => element.scrollWidth);
    expect(width).toBeLessThanOrEqual(360);
    expect(response.headers()["content-security-policy"]).not.toMatch(/unsafe|\*/);
    expect(await page.$$eval("script, [style], [onclick]", (found) => found.length)).toBe(0);
  }
  await page.goto(`${world.url}/dead-letters`);
  expect((await names()).sort()).toEqual([...odd].sort());
});

test.each(["?done=%3Cscript%3E", "?done=retried&id=%3Cscript%3E", "?done=retried-all&retried=%3Cscript%3E&without=-1", "?id=x&done=toString", "?done=a&done=b"])(
  "an address that somebody made up, %s, says nothing in our name", async (query) => {
    const html = await (await fetch(`${world.url}/dead-letters${query}`)).text();
    expect(html).not.toContain("<script>");
    expect(html).not.toMatch(/href="\/upload\/[^"]/);
  });

test.each([["/dead-letters", "POST", "GET, HEAD"], ["/dead-letters/retry", "GET", "POST"], ["/dead-letters/x/retry", "GET", "POST"], ["/dead-letters/x/discard", "DELETE", "GET, HEAD, POST"]])(
  "%s with %s is told what there is", async (path, method, allowed) => {
    const response = await fetch(world.url + path, { method });
    expect([response.status, response.headers.get("allow")]).toEqual([405, allowed]);
  });

test("a letter that is not there is a page that says so", async () => {
  const response = await fetch(`${world.url}/dead-letters/x/discard`, { headers: { Accept: "text/html" } });
  expect([response.status, (await response.text()).includes("Somebody may have retried or discarded it")]).toEqual([404, true]);
});

test("while PostgreSQL is away the page says so kindly, with 503, and what is pressed is said not to be done", async () => {
  const proxy = await throughFaultProxy(servers.pgUri());
  const away = await openWorld({}, { databaseHost: new URL(proxy.url).host });
  try {
    proxy.set({ down: true });
    const response = await fetch(`${away.url}/dead-letters`, { headers: { Accept: "text/html" } });
    const html = await response.text();
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(html).toContain("Nothing is lost");
    expect(html).not.toMatch(/ECONN|stack|postgres:\/\//);
    const pressed = await fetch(`${away.url}/dead-letters/retry`, { method: "POST", redirect: "manual" });
    expect([pressed.status, pressed.headers.get("location")]).toEqual([303, "/dead-letters?done=unavailable"]);
    proxy.set({});
  } finally {
    await away.close();
    await proxy.close();
  }
});

test("every reason that a dead letter can have is put in words for a person", () => {
  const root = join(import.meta.dirname, "../../src");
  const sources = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts")).map((name) => readFileSync(join(root, name), "utf8"));
  const codes = sources.flatMap((source) => [...source.matchAll(/new ItemTrouble\((?:code|"([A-Z_]+)")/g)].flatMap(([, code]) => code ?? "SETTLE_FAILED"));
  expect(new Set(ADVISED_CODES)).toEqual(new Set(codes));
});
