import type { Browser, Page } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { openWorkload } from "../../src/main/workload.ts";
import { openBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

let browser: Browser;
let world: World;
let workload: Awaited<ReturnType<typeof openWorkload>>;
let page: Page;
let complaints: string[];
let asked: string[];
let site = "";
let sites = 0;

beforeAll(async () => {
  browser = await openBrowser();
  world = await openWorld();
  workload = await openWorkload(world.context);
});
afterAll(async () => {
  await browser.close();
  await workload.stop();
  await world.close();
});
beforeEach(async () => {
  site = `site-${++sites}`; // each test's own
  page = await browser.newPage();
  await page.setViewport({ width: 1100, height: 900 });
  [complaints, asked] = [[], []];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => void asked.push(new URL(request.url()).pathname));
});
afterEach(async () => {
  await page.close();
  expect(complaints).toEqual([]);
});

const text = (selector: string) => page.$eval(selector, (element) => element.textContent!.replace(/\s+/g, " ").trim());
const views = () => text('[data-figure="views"]');
const tail = () => page.$$eval("#latest-rows tr", (rows) => rows.map((row) => [...row.querySelectorAll("bdi")].map((field) => field.textContent).join(" ")));
const send = (path: string, more: object = {}) => world.send({ site_id: site, event_type: "pageview", path, user_id: "ada", ...more });

async function open(query: Record<string, string> = {}, url = world.url): Promise<void> {
  await page.goto(`${url}/analytics?${new URLSearchParams({ site_id: site, ...query })}`, { waitUntil: "load" });
  await eventually(() => text("#freshness-text"), "Live");
}

test("events and figures come by themselves; what is new is marked, what was there is not touched", async () => {
  await send("/first");
  await eventually(async () => (await world.stats({ site_id: site })).total_views, 1);
  await open();
  expect([await views(), await tail()]).toEqual(["1", ["pageview /first ada"]]);
  await page.$eval("#latest-rows tr", (row) => row.setAttribute("data-mine", ""));
  await send("/second", { event_type: "click", user_id: null });
  await send("/third", { user_id: "bob" });
  await eventually(tail, ["pageview /third bob", "click /second –", "pageview /first ada"]);
  expect(await page.$$eval("#latest-rows tr", (rows) => rows.map((row) => [row.className, row.hasAttribute("data-mine")]))).toEqual([["fresh", false], ["fresh", false], ["", true]]);
  await eventually(views, "2");
  await eventually(() => text('[data-figure="users"]'), "2");
  await eventually(() => page.$$eval(".bar-name", (names) => names.map((name) => name.textContent)), ["/first", "/third", "pageview", "click"]); // asked for apart: with the next figures, perhaps
});

test("the list does not grow beyond its rows, and a late event takes the place of its time", async () => {
  for (let index = 0; index < 20; index++) await send(`/${index}`, { timestamp: new Date(Date.now() - (20 - index) * 60_000).toISOString() });
  await eventually(async () => (await world.sql("select 1 from events where site_id = $1", [site])).length, 20); // some may be of yesterday
  await open();
  await send("/late", { timestamp: new Date(Date.now() - 90_000).toISOString() });
  await eventually(async () => (await tail())[1], "pageview /late ada");
  expect(await tail()).toHaveLength(20);
  expect((await tail()).at(-1)).toBe("pageview /1 ada");
});

test("what is focused, open and scrolled to stays so while the figures change", async () => {
  await send("/first");
  await eventually(async () => (await world.stats({ site_id: site })).total_views, 1);
  await open();
  await page.click(".series summary");
  await page.focus("a.bar-name");
  await page.evaluate("scrollTo(0, 300)");
  await send("/second");
  await eventually(views, "2");
  expect(await page.evaluate("[document.activeElement.className, document.querySelector('.series details').open, scrollY]")).toEqual(["bar-name", true, 300]);
});

test("nothing is asked for while the page is paused, or its tab is hidden, and all is caught up with after", async () => {
  await open();
  await page.click("#pause");
  expect(await text("#freshness-text")).toBe("Paused");
  const other = await browser.newPage();
  await send("/meanwhile");
  await eventually(async () => (await world.stats({ site_id: site })).total_views, 1);
  await page.bringToFront();
  asked.length = 0;
  const since = Date.now();
  await eventually(() => Date.now() - since > 2_600, true); // longer than the list waits
  expect([asked, await views()]).toEqual([[], "0"]);
  await page.click("#pause");
  await eventually(views, "1");
  await eventually(tail, ["pageview /meanwhile ada"]);
  await page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }); document.dispatchEvent(new Event('visibilitychange'))");
  await eventually(async () => asked.length > 0, true);
  asked.length = 0;
  const hiddenAt = Date.now();
  await eventually(() => Date.now() - hiddenAt > 2_600, true);
  expect(asked).toEqual([]);
  await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))");
  await eventually(() => asked.includes("/stats/latest") && asked.includes("/analytics"), true);
  await other.close();
});

test("a test event is sent in place, counted, and seen in the list", async () => {
  await open();
  await page.type("#test-path", "/tried");
  await page.type("#test-user", "me");
  await page.click("#test-form button");
  await eventually(() => text("#test-said"), "Accepted: it is counted in a moment.");
  await eventually(tail, ["pageview /tried me"]);
  await eventually(views, "1");
  expect(asked.filter((path) => path === "/event")).toHaveLength(1);
  expect(new URL(page.url()).search).toBe(`?site_id=${site}`);
  await page.$eval("#test-site", (field) => ((field as unknown as { value: string }).value = "elsewhere"));
  await page.click("#test-form button");
  await eventually(() => text("#test-said"), "Accepted: it is counted in a moment. Show its site");
});

test("what is wrong with a test event is said beside the form, at its field", async () => {
  await open();
  await page.$eval("#test-path", (field, long) => ((field as unknown as { value: string }).value = long), "p".repeat(501));
  await page.click("#test-form button");
  await eventually(() => text("#test-fault"), "path has more than 500 characters");
  expect(await page.evaluate("[document.activeElement.id, document.activeElement.getAttribute('aria-invalid')]")).toEqual(["test-path", "true"]);
  expect(complaints.splice(0)).toEqual([expect.stringContaining("400")]); // the browser's own note of the answer
});

test("a page without a site comes to life by itself: with the database, and with the first site there is, but not under somebody's typing", async () => {
  const proxy = await throughFaultProxy(servers.pgUri());
  const empty = await openWorld({}, { databaseHost: new URL(proxy.url).host });
  try {
    proxy.set({ down: true });
    await page.goto(`${empty.url}/analytics`, { waitUntil: "load" });
    expect(await text("#live")).toContain("PostgreSQL is unreachable");
    proxy.set({});
    const hurry = () => page.evaluate("document.dispatchEvent(new Event('visibilitychange'))"); // what is shown again asks at once
    await hurry();
    await eventually(() => text("#live"), expect.stringContaining("No events yet"));
    expect(await page.$eval("#freshness", (freshness) => freshness.hidden)).toBe(true);
    await page.type("#test-path", "/half a");
    await empty.send({ site_id: "only", event_type: "pageview", path: "/" });
    await empty.recordAll();
    await hurry();
    await eventually(() => page.$$eval('[data-figure="views"]', ([figure]) => figure?.textContent), "1");
    expect(await page.$eval("input#test-path", (field) => field.value)).toBe("/half a");
    expect(await page.$eval("#freshness", (freshness) => freshness.hidden)).toBe(false);
    await page.type("#test-site", "only"); // what was sent is nobody's work any more
    await page.click("#test-form button");
    await eventually(() => page.$eval("#main", (main) => main.getAttribute("data-site")).catch(() => "loading"), "only");
    await eventually(tail, expect.arrayContaining(["pageview / –"]));
  } finally {
    complaints.length = 0; // the browser's own, of 503
    await empty.close();
    await proxy.close();
  }
});

test("without JavaScript the form leads back, and says so", async () => {
  await page.setJavaScriptEnabled(false);
  await page.goto(`${world.url}/analytics?site_id=${site}`);
  await page.type("#test-path", "/plain");
  await Promise.all([page.waitForNavigation(), page.click("#test-form button")]);
  expect(new URL(page.url()).search).toBe(`?site_id=${site}&sent=1`);
  expect(await text("#sent")).toContain("Accepted: the event is counted in a moment.");
  await eventually(async () => (await world.stats({ site_id: site })).total_views, 1);
  await Promise.all([page.waitForNavigation(), page.click("#sent a")]);
  expect([await views(), await tail()]).toEqual(["1", ["pageview /plain –"]]);
});

test("where the server does not answer the figures are said to be old, until it does", async () => {
  const line = await throughFaultProxy(world.url);
  try {
    await open({}, line.url.replace(/\/$/, ""));
    line.set({ down: true });
    await eventually(() => text("#freshness-text"), "Old figures: the server does not answer");
    line.set({});
    await eventually(() => text("#freshness-text"), "Live", 40_000);
    complaints.splice(0); // the browser's own notes of the requests that failed
  } finally {
    await page.goto("about:blank");
    await line.close();
  }
}, 60_000);

test("strangers' names do nothing but stand there", async () => {
  const evil = `"><img src=x onerror=alert(1)>`;
  site = evil;
  await open();
  await send(evil, { event_type: evil, user_id: evil });
  await eventually(tail, [`${evil} ${evil} ${evil}`]);
  await eventually(() => page.$$eval(".bars bdi", (names) => names.map((name) => name.textContent)), [evil]);
  expect(await page.$$("main img")).toEqual([]);
});
