import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openWorkload } from "../../src/main/workload.ts";
import { openBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

let browser: Browser;
let world: World;
let folder: string;
let page: Page;
let complaints: string[];

beforeAll(async () => {
  browser = await openBrowser();
  world = await openWorld({ MAX_UPLOAD_BYTES: "100000" });
  folder = await mkdtemp(join(tmpdir(), "pages-"));
  await writeFile(join(folder, "report.txt"), "the report");
});
afterAll(async () => {
  await browser.close();
  await world.close();
  await rm(folder, { recursive: true });
});
beforeEach(async () => {
  page = await browser.newPage();
  complaints = [];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
});
afterEach(async () => {
  await page.close();
  expect(complaints).toEqual([]);
});

/** Without JavaScript a button sends the form; with it a file goes as soon as it is chosen, and the list leads to its receipt. */
async function handIn(uploaderId: string, javaScript: boolean): Promise<void> {
  await page.goto(`${world.url}/`);
  expect(page.url()).toBe(`${world.url}/upload`);
  if (javaScript) await page.waitForSelector("#upload[data-live]");
  await page.type("#uploader_id", uploaderId);
  const input = (await page.$("input[type=file]"))! as Awaited<ReturnType<typeof page.waitForSelector>>;
  await (input as never as { uploadFile(...paths: string[]): Promise<void> }).uploadFile(join(folder, "report.txt"));
  const toReceipt = javaScript ? '[data-state="received"] [data-act="receipt"]' : "button[type=submit]";
  await page.waitForSelector(toReceipt, { visible: true });
  await Promise.all([page.waitForNavigation(), page.click(toReceipt)]);
}

const headline = () => page.$eval("h1", (element) => element.textContent);

describe.each([["with JavaScript", true], ["without JavaScript", false]] as const)("a person %s", (_how, javaScript) => {
  beforeEach(() => page.setJavaScriptEnabled(javaScript));

  test("hands in a file, holds a receipt at once, and sees it become stored", async () => {
    await handIn("Ada", javaScript);
    expect(page.url()).toMatch(/\/upload\/[0-9a-f-]{36}$/);
    expect(await headline()).toMatch(/^Received/);
    const text = await page.$eval("main", (element) => element.textContent!);
    expect(text).toContain("report.txt");
    expect(text).toContain("Ada");
    expect(text).not.toMatch(/could not be reached/); // nothing is wrong: it only waits
    const workload = await openWorkload(world.context);
    await eventually(headline, expect.stringMatching(/^Stored/));
    await workload.stop();
  });

  test("finds a form for one file, or for many that go at once", async () => {
    await page.goto(`${world.url}/upload`);
    if (javaScript) await page.waitForSelector("#upload[data-live]");
    const seen = await page.$$eval("#send, #choose-folder, #file", (elements) => elements.filter((element) => element.checkVisibility()).map(({ id }) => id));
    expect(seen.sort()).toEqual(javaScript ? ["choose-folder", "file"] : ["file", "send"]);
    expect(await page.$eval("#file", (input) => input.hasAttribute("multiple"))).toBe(javaScript);
  });

  test("sees the figures and the recent uploads on the dashboard, and how they change", async () => {
    await page.goto(`${world.url}/dashboard`);
    const shown = async () => (await page.$eval("main", (element) => element.textContent!)).includes(`new-${javaScript}.txt`);
    expect(await shown()).toBe(false);
    await world.put(`new-${javaScript}.txt`, "fresh");
    await world.settleAll();
    await eventually(shown, true);
  });

  test("is told by the dashboard, open as it is, when the audit cannot read a tally any more", async () => {
    const tally = (text: string) => world.context.inbox.store.put("tallies/another", Buffer.from(text));
    const shown = () => page.$$eval("[data-audit]:not([hidden]), [data-well]:not([hidden]), [data-unsure]:not([hidden])", (lines) => (
      lines.map(({ dataset }) => dataset.audit ?? Object.keys(dataset)[0])
    ));
    await page.goto(`${world.url}/dashboard`);
    await eventually(shown, ["well", "good"]);
    await tally("rotten");
    await eventually(shown, ["unsure", "unreadable"]);
    await tally('{"files":0,"bytes":0}');
  });

  test("who sends no file is told so on a page", async () => {
    await page.goto(`${world.url}/upload`);
    const answer = await page.evaluate(() => 0).then(() => fetch(`${world.url}/upload`, { method: "POST", headers: { Accept: "text/html" }, body: new FormData() }));
    expect(answer.headers.get("content-type")).toMatch(/text\/html/);
    expect(answer.status).toBe(400);
    expect(await answer.text()).toContain("Send the file in the form field");
  });
});

test.each(["/upload", "/dashboard", "receipt", "/nothing-here"])("%s fits a phone and is under a strict policy", async (path) => {
  const { file_id } = await (await world.put(`${"long-name-".repeat(20)}.txt`, "x")).json();
  await world.settleAll();
  await page.setViewport({ width: 360, height: 740 });
  const response = (await page.goto(world.url + (path === "receipt" ? `/upload/${file_id}` : path)))!;
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
  if (path === "/nothing-here") {
    complaints = complaints.filter((complaint) => !complaint.includes("404"));
    expect(response.status()).toBe(404);
  }
  const policy = response.headers()["content-security-policy"]!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  // What uPlot draws in it places by script, through the CSSOM, which the policy lets it.
  expect(await page.$$eval("script:not([src]), [style]:not(.plot *), [onclick]", (found) => found.length)).toBe(0);
});
