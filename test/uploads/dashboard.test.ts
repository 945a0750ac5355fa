import axe from "axe-core";
import type { Browser, HTTPRequest, Page } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { openWorkload } from "../../src/main/workload.ts";
import { openBrowser } from "../support/browser.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

let browser: Browser;
let world: World;
let page: Page;
let complaints: string[];
let asked: string[];

beforeAll(async () => {
  browser = await openBrowser();
  world = await openWorld();
});
afterAll(async () => {
  await browser.close();
  await world.close();
});
beforeEach(async () => {
  page = await browser.newPage();
  await page.setViewport({ width: 1100, height: 900 });
  [complaints, asked] = [[], []];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => void asked.push(`${request.resourceType()} ${new URL(request.url()).pathname}`));
});
afterEach(async () => {
  await page.close();
  expect(complaints).toEqual([]);
  await eventually(() => world.site.live().streams, 0); // a closed tab leaves nothing
});

const text = (selector: string) => page.$eval(selector, (element) => element.textContent!.trim());
const freshness = () => page.$eval("#freshness", ({ dataset }) => [dataset.state, dataset.how]);
const shownNames = () => page.$$eval("#recent-rows [data-field=name]", (links) => links.map((link) => link.textContent!.trim()));
const streamed = () => asked.filter((request) => request.startsWith("eventsource")).length;
const polled = () => asked.filter((request) => request.startsWith("fetch")).length;

async function open(): Promise<void> {
  await page.goto(`${world.url}/dashboard`, { waitUntil: "load" });
  await eventually(freshness, ["live", "live"]);
  await eventually(() => page.$$eval(".chart canvas", (found) => found.length), 4);
}

/** For so long by its clock that a page that asks every two seconds would have asked twice. */
async function twoRounds(): Promise<void> {
  const since = await page.evaluate(() => performance.now());
  await eventually(async () => (await page.evaluate(() => performance.now())) - since > 4_500, true);
}

test("figures, charts and the list are pushed: nothing is asked for while there is a stream", async () => {
  await open();
  const before = polled();
  expect(before).toBeLessThanOrEqual(1); // the charts' past
  const workload = await openWorkload(world.context);
  for (let i = 0; i < 5; i++) await world.put(`pushed-${i}.txt`, "x".repeat(100));
  await eventually(() => text('[data-figure="timescale"]'), "5");
  await eventually(shownNames, ["pushed-4.txt", "pushed-3.txt", "pushed-2.txt", "pushed-1.txt", "pushed-0.txt"]);
  await eventually(() => text('[data-figure="workers"]'), "1");
  expect(await text("#worker-rows")).toContain(world.context.name);
  expect(await text('[data-figure="stored"]')).toBe("500 bytes");
  await eventually(() => text("#chart-0-summary"), expect.stringContaining("5 accepted, 5 settled."));
  await eventually(() => page.$$eval("#recent-rows [data-status-label]:not([hidden])", (labels) => labels.map((label) => label.textContent)), Array(5).fill("Stored"));
  await twoRounds();
  expect([polled() - before, streamed()]).toEqual([0, 1]);
  expect(await text("[data-well]")).toBe("All is well.");
  await workload.stop();
});

test("cut off from the stream the page asks for its figures, and stops when it is pushed to again", async () => {
  let cut = true;
  await page.setRequestInterception(true);
  const through = (request: HTTPRequest) => void (cut && request.resourceType() === "eventsource" ? request.respond({ status: 503, body: "" }) : request.continue());
  page.on("request", through);
  await page.goto(`${world.url}/dashboard`, { waitUntil: "load" });
  await eventually(freshness, ["live", "asking"]);
  expect(await text("#freshness-text")).toContain("asked for every 2 seconds");
  await world.put("polled.txt", "polled");
  await eventually(async () => (await shownNames())[0], "polled.txt");
  await world.settleAll();
  await eventually(() => page.$eval("#recent-rows tr", ({ dataset }) => dataset.status), "stored");
  cut = false;
  await eventually(freshness, ["live", "live"], 30_000);
  const before = polled();
  await eventually(async () => streamed() >= 2, true);
  await twoRounds();
  expect(polled() - before).toBe(0);
  complaints = complaints.filter((complaint) => !complaint.includes("503"));
}, 60_000);

test("says since when its figures are old while the server is away, and is current again by itself", async () => {
  await open();
  const cdp = await page.createCDPSession();
  await cdp.send("Network.enable");
  const offline = (now: boolean) => cdp.send("Network.emulateNetworkConditions", { offline: now, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await offline(true);
  world.site.server.closeAllConnections();
  await eventually(() => text("#freshness-text"), expect.stringMatching(/^Old figures, from \d{4}-.* UTC: the server does not answer$/), 25_000);
  expect(await page.$eval("main", (main) => main.hasAttribute("data-old"))).toBe(true);
  await offline(false);
  await eventually(async () => (await freshness())[0], "live", 25_000);
  await eventually(freshness, ["live", "live"], 25_000);
  expect(await page.$eval("main", (main) => main.hasAttribute("data-old"))).toBe(false);
  complaints = complaints.filter((complaint) => !/ERR_INTERNET_DISCONNECTED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(complaint));
}, 90_000);

test("paused it listens to nothing and stays as it is, until it is resumed", async () => {
  await open();
  await page.click("#pause");
  await eventually(() => world.site.live().streams, 0);
  expect(await text("#freshness-text")).toMatch(/^Paused: figures from /);
  const [before, asked] = [await text('[data-figure="timescale"]'), polled()];
  await world.put("meanwhile.txt", "meanwhile");
  await world.settleAll();
  await twoRounds();
  expect([await text('[data-figure="timescale"]'), polled()]).toEqual([before, asked]);
  await page.click("#pause");
  await eventually(() => text('[data-figure="timescale"]'), String(Number(before) + 1));
});

test("a search stays as it was found while new uploads come, and all of them are back with a click", async () => {
  const letters = deadLettersIn(() => world);
  await letters.makeDead();
  await letters.allow();
  await world.upload("needle", { name: "Needle 100%.txt", uploaderId: "station-9" });
  await world.settleAll();
  await open();
  await page.type("#q", "needle 100%");
  await page.keyboard.press("Enter");
  await eventually(shownNames, ["Needle 100%.txt"]);
  expect(page.url()).toContain("/dashboard?q=needle+100%25&status=any");
  await world.upload("more", { name: "another.txt" });
  await world.settleAll();
  await eventually(async () => Number(await text('[data-figure="timescale"]')), await world.ledger());
  expect(await shownNames()).toEqual(["Needle 100%.txt"]);
  expect(await text("#found")).toMatch(/^1 found as of /);
  await page.$eval("#q", (field) => void ((field as unknown as { value: string }).value = ""));
  await page.select("#status", "failed");
  await eventually(shownNames, ["bad-0.bin"]);
  await page.click("#all");
  await eventually(async () => (await shownNames())[0], "another.txt");
  expect(page.url()).toBe(`${world.url}/dashboard`);
  expect(await page.$eval("#state", ({ dataset }) => dataset.level)).toBe("warn"); // there is a dead letter
});

test("its charts show 15 minutes, 24 hours and 30 days, drawn and in words and numbers, in both colour schemes", async () => {
  const LONG = ["Uploads", "Bytes", "Dead letters"], LIVE = ["Uploads a second", "Bytes a second", "Acceptance to ledger", "In the queue"];
  await open();
  for (const [range, titles] of [["24h", LONG], ["15m", LIVE], ["30d", LONG], ["15m", LIVE]] as const) { // each after one that looks different
    await page.click(`input[value="${range}"]`);
    await eventually(() => page.$$eval(".chart h3", (found) => found.map((title) => title.textContent)), titles);
    await eventually(() => page.$$eval(".chart canvas", (found) => found.length), titles.length);
    if (range !== "15m") expect(await text("#chart-0-summary")).toContain(`${await world.ledger()} in all.`);
  }
  await page.click(".chart details summary");
  await eventually(() => page.$$eval(".chart:first-child tbody tr", (found) => found.length), 30);
  expect(await page.$$eval(".plot[role=img][aria-labelledby][aria-describedby]", (found) => found.length)).toBe(4);
  const blank = await page.evaluate("Object.assign(document.createElement('canvas'), { width: 500, height: 168 }).toDataURL().length");
  const ink = async () => ((await page.evaluate("document.querySelector('.chart canvas').toDataURL().length")) as number) > 2 * (blank as number);
  for (const value of ["dark", "light"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }, { name: "prefers-reduced-motion", value: "reduce" }]);
    await eventually(ink, true);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })") as axe.AxeResults;
    expect(violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
  }
});

test.each(["15m", "30d"])("fits a phone of 360 pixels with charts of %s, and follows when it is turned", async (range) => {
  await page.setViewport({ width: 360, height: 740 });
  await open();
  await page.click(`input[value="${range}"]`);
  await eventually(() => page.$$eval(".chart canvas", (found) => found.length), range === "15m" ? 4 : 3);
  await page.click(".chart details summary");
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
  const width = () => page.$eval(".uplot canvas", (canvas) => canvas.clientWidth);
  const narrow = await width();
  await page.setViewport({ width: 600, height: 360 });
  await eventually(async () => (await width()) > narrow, true);
  await page.setViewport({ width: 360, height: 740 });
  await eventually(width, narrow);
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
});
