import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, get, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Browser, Page } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const FILE = readFileSync(join(import.meta.dirname, "../../public/tracker.js"));
const ALLOWED = "http://127.0.0.1"; // and a port, of the page that may send

let browser: Browser;
let world: World;
let theirs: Server;
let theirUrl: string;
let page: Page;
let complaints: string[];
let sent: { type: string; path: string; body: string }[];
let site = "";
let sites = 0;
/** Attributes of the script's element. */
let attributes = "";

beforeAll(async () => {
  browser = await openBrowser();
  theirs = createServer((req, res) => {
    res.writeHead(req.url === "/favicon.ico" ? 204 : 200, { "Content-Type": "text/html" });
    res.end(req.url === "/favicon.ico" ? "" : `<!doctype html><title>x</title><script defer src="${world.url}/tracker.js" data-site="${site}" ${attributes}></script><a href="/next">next</a>`);
  });
  theirs.listen(0, "127.0.0.1");
  await once(theirs, "listening");
  theirUrl = `${ALLOWED}:${(theirs.address() as AddressInfo).port}`;
  world = await openWorld({ EVENT_ORIGINS: theirUrl });
});
afterAll(async () => {
  await browser.close();
  theirs.close();
  await world.close();
});
beforeEach(async () => {
  [site, attributes] = [`site-${++sites}`, ""];
  page = await browser.newPage();
  [complaints, sent] = [[], []];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => void (new URL(request.url()).pathname === "/event" && sent.push({ type: request.resourceType(), path: request.url(), body: request.postData() ?? "" })));
});
afterEach(async () => {
  await page.close();
  expect(complaints).toEqual([]);
});

/** Another tab's view comes after: what was sent before it would be there. */
async function expectNothingSent(): Promise<void> {
  site = `site-${++sites}`;
  const other = await browser.newPage();
  await other.goto(`${theirUrl}/other`, { waitUntil: "load" });
  await eventually(counted, ["pageview /other"]);
  await other.close();
  expect(sent).toEqual([]);
}

/** What the hub has counted of the site, the earliest first. */
async function counted(): Promise<string[]> {
  await world.recordAll();
  const rows = await world.sql<{ event_type: string; path: string }>("select event_type, path from events where site_id = $1 order by id", [site]);
  return rows.map(({ event_type, path }) => `${event_type} ${path}`);
}

/** For those of one moment: over several connections no order is promised. */
const sorted = async () => (await counted()).toSorted();

const go = (path: string) => page.goto(theirUrl + path, { waitUntil: "load" });

describe("on a page of another origin", () => {
  test("a view is counted, its visitor once a day, without a cookie or anything else kept", async () => {
    await go("/home?secret=1#part");
    await eventually(counted, ["pageview /home"]);
    await go("/prices");
    await eventually(counted, ["pageview /home", "pageview /prices"]);
    expect(await world.stats({ site_id: site })).toMatchObject({ total_views: 2, unique_users: 1 });
    expect(await page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]")).toEqual(["", 0, 0]);
    expect(await browser.cookies()).toEqual([]);
    expect(sent.map(({ type, path }) => [type, path])).toEqual([["ping", `${world.url}/event`], ["ping", `${world.url}/event`]]);
  });

  test("a view within a page is counted once for each change of its path", async () => {
    await go("/app");
    await eventually(counted, ["pageview /app"]);
    await page.evaluate("history.pushState({}, '', '/app/one'); history.pushState({}, '', '/app/one?tab=2'); history.replaceState({}, '', '/app/one#x')");
    await eventually(counted, ["pageview /app", "pageview /app/one"]);
    await page.evaluate("history.replaceState({}, '', '/app/two')");
    await eventually(counted, ["pageview /app", "pageview /app/one", "pageview /app/two"]);
    await page.evaluate("history.back()");
    await eventually(counted, ["pageview /app", "pageview /app/one", "pageview /app/two", "pageview /app/one"]);
    expect(await page.evaluate("[location.pathname, history.length]")).toEqual(["/app/one", 4]);
  });

  test("the page's own events are counted, and the user that the page names", async () => {
    attributes = 'data-user="ada"';
    await go("/home");
    await page.evaluate("connectstorm('signup'); connectstorm('download', { path: '/report.pdf' })");
    await eventually(sorted, ["pageview /home", "signup /home", "download /report.pdf"].toSorted());
    expect(await world.sql("select distinct user_id from events where site_id = $1", [site])).toEqual([{ user_id: "ada" }]);
  });

  test("whatever the page gives for a path, nothing is thrown into it, and a long user is cut", async () => {
    attributes = `data-user="${"u".repeat(300)}"`;
    await go("/home");
    await page.evaluate("connectstorm('a', null); connectstorm('b', { path: null }); connectstorm('c', { path: 404 }); connectstorm('d', {}); connectstorm('e', 'odd'); connectstorm(404); connectstorm('t'.repeat(300)); connectstorm('f', { path: Object.create(null) }); connectstorm(Object.create(null))");
    await eventually(sorted, ["pageview /home", "a /home", "b /home", "c 404", "d /home", "e /home", "404 /home", `${"t".repeat(255)} /home`].toSorted());
    expect(await world.sql("select distinct user_id from events where site_id = $1", [site])).toEqual([{ user_id: "u".repeat(255) }]);
  });

  test.each([
    ["Do Not Track", "Object.defineProperty(navigator, 'doNotTrack', { get: () => '1' })"],
    ["Global Privacy Control", "Object.defineProperty(navigator, 'globalPrivacyControl', { get: () => true })"],
  ])("nothing is sent where %s asks for it", async (_what, wish) => {
    await page.evaluateOnNewDocument(wish);
    await go("/home");
    await page.evaluate("history.pushState({}, '', '/more'); connectstorm('signup')");
    await expectNothingSent();
  });

  test.each([["has none", "undefined"], ["takes no more of them", "() => false"]])("where the browser's beacon %s the event is sent all the same", async (_what, beacon) => {
    await page.evaluateOnNewDocument(`Object.defineProperty(navigator, "sendBeacon", { value: ${beacon} })`);
    await go("/home");
    await eventually(counted, ["pageview /home"]);
    expect(sent.map(({ type }) => type)).toEqual(["fetch"]);
  });

  test("what is drawn ahead counts when it is shown, and what is come back to counts again", async () => {
    await page.evaluateOnNewDocument("Object.defineProperty(document, 'prerendering', { configurable: true, get: () => true })");
    await go("/ahead");
    await page.evaluate("connectstorm('drawn')");
    await eventually(counted, ["drawn /ahead"]);
    await page.evaluate("delete document.prerendering; document.dispatchEvent(new Event('prerenderingchange'))");
    await eventually(counted, ["drawn /ahead", "pageview /ahead"]);
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))");
    await eventually(counted, ["drawn /ahead", "pageview /ahead", "pageview /ahead"]);
  });

  test("a path without an end is cut to what an event may have, and no site sends nothing", async () => {
    await go(`/${"p".repeat(900)}`);
    await eventually(counted, [`pageview /${"p".repeat(499)}`]);
    [site, sent] = ["", []];
    await go("/home");
    await page.evaluate("connectstorm('signup')");
    await expectNothingSent();
  });
});

describe("GET /tracker.js", () => {
  test("is under a kilobyte, compressed", async () => {
    expect(gzipSync(FILE, { level: 9 }).length).toBeLessThan(1_000);
    const response = await fetch(`${world.url}/tracker.js`, { headers: { "accept-encoding": "gzip" } });
    expect(Number(response.headers.get("content-length"))).toBeLessThan(1_000);
    expect(Buffer.from(await response.arrayBuffer())).toEqual(FILE);
  });

  test("may be loaded by every page, and kept for an hour", async () => {
    for (const method of ["GET", "HEAD"]) {
      const { status, headers } = await fetch(`${world.url}/tracker.js`, { method });
      expect([status, Object.fromEntries(headers)]).toEqual([200, expect.objectContaining({
        "content-type": "text/javascript; charset=utf-8", "cache-control": "public, max-age=3600", "cross-origin-resource-policy": "cross-origin",
        "access-control-allow-origin": "*", "x-content-type-options": "nosniff", vary: "Accept-Encoding",
      })]);
    }
    const plain = await fetch(`${world.url}/tracker.js`, { headers: { "accept-encoding": "identity" } });
    expect([plain.headers.get("content-encoding"), Buffer.from(await plain.arrayBuffer())]).toEqual([null, FILE]);
  });

  test("is not sent again to who has it", async () => {
    const etag = (await fetch(`${world.url}/tracker.js`)).headers.get("etag")!;
    const [again] = await once(get(`${world.url}/tracker.js`, { headers: { "If-None-Match": etag } }), "response") as [IncomingMessage]; // fetch would ask for it anew
    expect([again.statusCode, again.headers["content-length"]]).toEqual([304, undefined]);
    again.resume();
  });

  test("is an asset as well, and takes no other method", async () => {
    expect(Buffer.from(await (await fetch(`${world.url}/assets/tracker.js`)).arrayBuffer())).toEqual(FILE);
    const refused = await fetch(`${world.url}/tracker.js`, { method: "POST" });
    expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
  });

  test("has nothing that keeps anything", () => {
    expect(FILE.toString()).not.toMatch(/document\.cookie|localStorage|sessionStorage|indexedDB|caches/);
  });
});
