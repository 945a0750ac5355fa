import axe from "axe-core";
import type { Browser, Page } from "puppeteer";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openBrowser } from "../support/browser.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { openWorld, type World } from "../support/world.ts";

const LOOKS = [["light", 1100], ["dark", 1100], ["light", 360], ["dark", 360]] as const;
const LONG = `${"a-name-without-an-end-".repeat(10)}.csv`;

let browser: Browser;
let world: World;
/** Of a page, by the name it has in the tests. */
const addresses: Record<string, string> = {};
beforeAll(async () => {
  browser = await openBrowser();
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", ALLOWED_TYPES: "text/*,application/octet-stream,image/png", MAX_UPLOAD_BYTES: "100000" });
  const put = async (name: string) => (await (await world.put(name, `the bytes of ${name}`, { "X-Uploader-Id": "s".repeat(128), "Content-Type": "text/plain" })).json()).file_id as string;
  addresses["the upload page"] = "/upload";
  addresses["a stored file's receipt"] = `/upload/${await put(LONG)}`;
  for (const name of ["one.txt", "two.txt", "three.txt"]) await put(name);
  await world.settleAll();
  const { makeDead, allow } = deadLettersIn(() => world);
  const [dead] = await makeDead(2, "text", { "Content-Type": "text/plain" });
  await allow();
  addresses["a failed file's receipt"] = `/upload/${dead}`;
  addresses["the dead letters"] = "/dead-letters";
  addresses["the question before a letter is discarded"] = `/dead-letters/${dead}/discard`;
  addresses["a waiting file's receipt"] = `/upload/${await put("waiting.txt")}`;
  addresses["the dashboard"] = "/dashboard";
  const event = (site: string, long: string) => ({ site_id: site, event_type: `t${long}`, path: `/${long}${long}`, user_id: `u${long}` });
  await world.send([{ site_id: "shop", event_type: "pageview", path: "/home", user_id: "ada" }, event("s".repeat(255), "l".repeat(249)), { ...event("shop", "l".repeat(249)) }]);
  await world.recordAll();
  addresses["the analytics page"] = "/analytics";
  addresses["the analytics of a site"] = "/analytics?site_id=shop";
  addresses["the analytics of a site of a long name"] = `/analytics?site_id=${"s".repeat(255)}&event_type=t${"l".repeat(249)}&from=2026-01-01`;
  addresses["an address there is nothing at"] = "/nothing-here";
});
afterAll(async () => {
  await browser.close();
  await world.close();
});

/** @returns all that a browser complains of while the page is there, violations of its policy among them */
async function visit(path: string, [scheme, width]: (typeof LOOKS)[number], javaScript = true): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.setJavaScriptEnabled(javaScript);
  await page.setViewport({ width, height: 800 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.goto(world.url + path, { waitUntil: "load" });
  return { page, complaints: complaints.filter((complaint) => !(path === "/nothing-here" && complaint.includes("404"))) };
}

const PAGES = [
  "the upload page", "the dashboard", "the dead letters", "the question before a letter is discarded", "a stored file's receipt", "a failed file's receipt",
  "a waiting file's receipt", "the analytics page", "the analytics of a site", "the analytics of a site of a long name", "an address there is nothing at",
];

describe.each(PAGES)("%s", (name) => {
  test.each(LOOKS)("has no serious fault of accessibility, overflows nowhere and nobody complains (%s, %i px)", async (...look) => {
    const { page, complaints } = await visit(addresses[name]!, look);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })") as axe.AxeResults;
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    expect(serious.map(({ id, help, nodes }) => [id, help, nodes.map(({ html }) => html.slice(0, 200))])).toEqual([]);
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(look[1]);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("says the same to those without JavaScript, and fits their phone", async () => {
    const { page, complaints } = await visit(addresses[name]!, ["light", 360], false);
    expect(await page.$eval("h1", (heading) => heading.textContent!.trim().length)).toBeGreaterThan(5);
    expect(await page.$eval("html", (root) => root.scrollWidth)).toBeLessThanOrEqual(360);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("has a title, one heading above all others, landmarks, a language, and nothing from elsewhere", async () => {
    const { page } = await visit(addresses[name]!, LOOKS[0]);
    expect(await page.title()).toMatch(/^.+ · ConnectStorm$/);
    const found = await page.evaluate(`({
      h1: document.querySelectorAll("h1").length, main: document.querySelectorAll("main").length, nav: document.querySelectorAll("nav").length, lang: document.documentElement.lang,
      elsewhere: performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => !name.startsWith(location.origin)),
    })`);
    expect(found).toEqual({ h1: 1, main: 1, nav: 1, lang: "en", elsewhere: [] });
    await page.close();
  });
});
