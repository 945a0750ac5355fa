import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drawSeries } from "../../src/events/page/series-chart.ts";
import { snippetsFor } from "../../src/events/page/snippets.ts";
import * as serverTimes from "../../src/events/page/zone-time.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const EVIL = `"><script>alert(1)</script>`;

let world: World;
let empty: World;
beforeAll(async () => {
  [world, empty] = await Promise.all([openWorld(), openWorld()]);
  world.setClock(new Date("2026-11-22T12:30:00Z"));
  const at = (when: string, path: string | null, user: string | null, type = "pageview") => ({ site_id: "shop", event_type: type, path, user_id: user, timestamp: when });
  await world.send([
    at("2026-11-22T09:10:00Z", "/home", "ada"), at("2026-11-22T09:20:00Z", "/home", "bob"), at("2026-11-22T12:05:00Z", "/prices", "ada"),
    at("2026-11-22T12:10:00Z", "/prices", "ada", "click"), at("2026-11-21T23:30:00Z", "/late", "eve"), at("2026-11-15T10:00:00Z", "/old", "old"),
    { site_id: "other", event_type: "pageview", path: "/x" },
    { site_id: EVIL, event_type: EVIL, path: EVIL, user_id: EVIL }, { site_id: EVIL, event_type: "pageview", path: EVIL },
    { site_id: "😀".repeat(255), event_type: "pageview", path: "/🌩️/" + "p".repeat(490), user_id: "u".repeat(255) },
  ]);
  await world.recordAll();
});
afterAll(() => Promise.all([world.close(), empty.close()]));

/** As a person's browser asks for it, JavaScript or not. */
async function visit(query: Record<string, string> = {}, of: World = world) {
  const response = await fetch(`${of.url}/analytics?${new URLSearchParams(query)}`, { headers: { accept: "text/html" } });
  const html = await response.text();
  return { status: response.status, headers: response.headers, html, text: textOf(html) };
}

function textOf(html: string): string {
  return html.replace(/<[^>]*>/g, " ").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&#34;|&quot;/g, '"').replace(/&#39;/g, "'").replace(/&amp;/g, "&").replace(/\s+/g, " ");
}

const figure = (html: string, name: string) => new RegExp(`data-figure="${name}">([^<]*)<`).exec(html)?.[1];
const figures = (html: string) => ["views", "users", "events"].map((name) => figure(html, name));
const bars = (html: string) => [...html.matchAll(/class="bar-name"[^>]*><bdi>([^<]*)<[\s\S]*?class="bar-count">([^<]*)</g)].map(([, name, count]) => `${name} ${count}`);
const columns = (html: string) => [...html.matchAll(/<tr><td>([^<]*)<\/td><td>([^<]*)<\/td><\/tr>/g)].map(([, when, count]) => `${when}: ${count}`);

describe("the page of a site", () => {
  test("has today's figures, paths, types and latest events where nothing else is asked for", async () => {
    const { status, headers, html, text } = await visit({ site_id: "shop" });
    expect([status, headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(figures(html)).toEqual(["3", "2", "4"]);
    expect(bars(html)).toEqual(["/home 2", "/prices 1", "pageview 3", "click 1"]);
    expect(text).toContain("Today, 22 Nov 2026 UTC");
    expect(text).toContain("Highest: 2 at 22 Nov, 09:00. 3 in all.");
    expect([...html.matchAll(/data-field="path"[^>]*>([^<]*)</g)].map(([, path]) => path)).toEqual(["/prices", "/prices", "/home", "/home", "/late", "/old", ""]);
    expect(html).toContain('<option value="shop" selected>');
  });

  test("is drawn by the hour for two days at most, and by the day beyond", async () => {
    const one = columns((await visit({ site_id: "shop" })).html);
    expect([one.length, one[9], one[10]]).toEqual([24, "22 Nov, 09:00: 2", "22 Nov, 10:00: 0"]);
    const two = columns((await visit({ site_id: "shop", from: "2026-11-21" })).html);
    expect([two.length, two[23], two[36]]).toEqual([48, "21 Nov, 23:00: 1", "22 Nov, 12:00: 1"]);
    const week = columns((await visit({ site_id: "shop", from: "2026-11-16" })).html);
    expect(week).toEqual(["16 Nov 2026: 0", "17 Nov 2026: 0", "18 Nov 2026: 0", "19 Nov 2026: 0", "20 Nov 2026: 0", "21 Nov 2026: 1", "22 Nov 2026: 3"]);
  });

  test("counts the days of the zone that is asked for, and tells its times", async () => {
    const { html, text } = await visit({ site_id: "shop", tz: "Europe/Berlin" });
    expect(figures(html)).toEqual(["4", "3", "5"]); // 23:30 UTC is half past midnight there
    expect(text).toContain("2026-11-22 00:30:00");
    expect(text).toContain("Highest: 2 at 22 Nov, 10:00.");
  });

  test("shows a range, and leads to those that are asked for most", async () => {
    const { html } = await visit({ site_id: "shop", from: "2026-11-15", to: "2026-11-21" });
    expect(figures(html)).toEqual(["2", "2", "2"]);
    const links = new Map([...html.matchAll(/<a href="(\/analytics[^"]*)"[^>]*>((?:Today|Yesterday|Last)[^<]*)</g)].map(([, href, label]) => [label, href!.replaceAll("&amp;", "&")]));
    expect(Object.fromEntries(links)).toEqual({
      Today: "/analytics?site_id=shop", Yesterday: "/analytics?site_id=shop&from=2026-11-21&to=2026-11-21",
      "Last 7 days": "/analytics?site_id=shop&from=2026-11-16&to=2026-11-22", "Last 30 days": "/analytics?site_id=shop&from=2026-10-24&to=2026-11-22",
    });
    expect(html).not.toMatch(/aria-current="true">(Today|Yesterday|Last)/);
    const month = await fetch(world.url + links.get("Last 30 days"), { headers: { accept: "text/html" } }).then((response) => response.text());
    expect(figures(month)).toEqual(["5", "4", "6"]);
    expect(month).toMatch(/aria-current="true">Last 30 days/);
  });

  test("draws another type of event where its name is chosen", async () => {
    const { html, text } = await visit({ site_id: "shop", event_type: "click" });
    expect(text).toContain("click by the hour");
    expect(text).toContain("Highest: 1 at 22 Nov, 12:00. 1 in all.");
    expect(figures(html)).toEqual(["3", "2", "4"]);
  });

  test("says that nothing happened in that time, where nothing did", async () => {
    const { status, html, text } = await visit({ site_id: "nobody-knows-it" });
    expect([status, figures(html)]).toEqual([200, ["0", "0", "0"]]);
    for (const sentence of ["None in this time.", "No page view with a path in this time.", "No event in this time.", "No event of this site is kept."]) expect(text).toContain(sentence);
  });

  test("shows what strangers wrote as text, however they wrote it", async () => {
    const { html, text } = await visit({ site_id: EVIL });
    expect(html).not.toContain("<script>alert");
    expect(html).not.toMatch(/<script(?![^>]*\bsrc=)[^>]*>|<style[\s>]|<[^>]*\s(style|on[a-z]+)=/i);
    expect(text.split(EVIL).length).toBeGreaterThan(5);
    const long = await visit({ site_id: "😀".repeat(255) });
    expect([long.status, figures(long.html)]).toEqual([200, ["1", "1", "1"]]);
    expect(long.html).toContain(`title="/🌩️/${"p".repeat(490)}"`);
  });

  test("gives lines to copy that mean this site, its name quoted for where it stands", async () => {
    const { text } = await visit({ site_id: "shop" });
    expect(text).toContain(`<script defer src="${world.url}/tracker.js" data-site="shop"></script>`);
    expect(text).toContain(`curl ${world.url}/event -H 'Content-Type: application/json' -d '{"site_id":"shop",`);
    const { curl, script } = snippetsFor("https://hub.example", `it's "<&>"`);
    expect(script).toContain('data-site="it\'s &quot;&lt;&amp;&gt;&quot;"');
    expect(curl).toContain(String.raw`-d '{"site_id":"it'\''s \"<&>\"",`);
  });
});

describe("who has not chosen a site", () => {
  test("is told how to begin where there is none", async () => {
    const { status, text } = await visit({}, empty);
    expect([status, text.includes("No events yet"), text.includes('data-site="my-site"')]).toEqual([200, true, true]);
  });

  test("is shown those there are", async () => {
    const { html } = await visit();
    expect([...html.matchAll(/<li><a href="([^"]*)" title="(?:shop|other)"/g)].map(([, href]) => href)).toEqual(["/analytics?site_id=other", "/analytics?site_id=shop"]);
    expect(figures(html)).toEqual([undefined, undefined, undefined]);
  });
});

test.each<[string, Record<string, string>, string]>([
  ["a day that there is not", { site_id: "shop", from: "2026-02-30" }, "from: must be a day that there is"],
  ["an end before its beginning", { site_id: "shop", from: "2026-11-20", to: "2026-11-19" }, "from: lies after to"],
  ["more days than can be shown", { site_id: "shop", from: "2020-01-01", to: "2026-01-01" }, "at most 731 days"],
  ["a zone that there is not", { site_id: "shop", tz: "Mars/Olympus" }, "tz: must be a time zone"],
  ["a site of too long a name", { site_id: "s".repeat(600) }, "site_id: has more than 255 characters"],
  ["a type that is no text", { site_id: "shop", event_type: "a\0b" }, "event_type: has characters that are no text"],
])("%s is answered with a page that says so, and 400", async (_what, query, sentence) => {
  const { status, headers, text } = await visit(query);
  expect([status, headers.get("content-type")]).toEqual([400, "text/html; charset=utf-8"]);
  expect(text).toContain(sentence);
});

describe("the form", () => {
  const post = (fields: Record<string, string>, headers: Record<string, string> = {}, query = "") =>
    fetch(`${empty.url}/analytics${query}`, { method: "POST", body: new URLSearchParams(fields), redirect: "manual", headers: { accept: "text/html", ...headers } });

  test("sends an event, leads back to its site, and says that it is accepted", async () => {
    const response = await post({ site_id: "tried", event_type: "pageview", path: "/home", user_id: "" }, {}, "?tz=Europe%2FBerlin");
    expect([response.status, response.headers.get("location")]).toEqual([303, "/analytics?site_id=tried&tz=Europe%2FBerlin&sent=1"]);
    const back = await visit({ site_id: "tried", sent: "1" }, empty);
    expect(back.text).toContain("Accepted: the event is counted in a moment.");
    await empty.recordAll();
    expect(figures((await visit({}, empty)).html)).toEqual(["1", "0", "1"]); // the only site there is need not be chosen
    expect((await visit({}, empty)).text).not.toContain("Accepted: the event");
  });

  test.each([
    [{ site_id: "", event_type: "pageview" }, "site_id required"], [{ site_id: "tried", event_type: " " }, "event_type required"],
    [{ site_id: "tried", event_type: "pageview", path: "p".repeat(501) }, "path has more than 500 characters"],
  ])("is told in words what is wrong (%#)", async (fields, sentence) => {
    const response = await post(fields);
    expect([response.status, textOf(await response.text()).includes(sentence)]).toEqual([400, true]);
  });

  test("is not taken from another site's page, nor in another shape", async () => {
    const fields = { site_id: "tried", event_type: "pageview" };
    expect((await post(fields, { "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect((await post(fields, { origin: "https://evil.example" })).status).toBe(403);
    expect((await post(fields, { "content-type": "text/plain" })).status).toBe(415);
    expect((await fetch(`${empty.url}/analytics`, { method: "DELETE" })).headers.get("allow")).toBe("GET, HEAD, POST");
  });
});

describe("what is not in the figures", () => {
  test("is said while the database or Redis is away, and events are accepted all the same", async () => {
    const [proxy, redis] = await Promise.all([throughFaultProxy(servers.pgUri()), throughFaultProxy(servers.redisUrl())]);
    const away = await openWorld({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500" }, { databaseHost: new URL(proxy.url).host });
    try {
      proxy.set({ down: true });
      const { status, html, text } = await visit({ site_id: "shop" }, away);
      expect([status, figures(html)]).toEqual([200, ["–", "–", "–"]]);
      expect(text).toContain("PostgreSQL is unreachable: no figures right now.");
      expect(text).toContain("This list comes from PostgreSQL");
      expect(html).toContain('<input id="site" name="site_id"');
      const sent = await fetch(`${away.url}/analytics`, { method: "POST", body: new URLSearchParams({ site_id: "shop", event_type: "pageview" }), redirect: "manual" });
      expect(sent.status).toBe(303);
      proxy.set({});
      await eventually(async () => (await visit({ site_id: "shop" }, away)).text.includes("unreachable"), false);
      redis.set({ down: true });
      expect((await away.send({ site_id: "shop", event_type: "pageview" })).status).toBe(202);
      await eventually(async () => /Kept aside, from a time without Redis: 1\.\d KiB of events\./.test((await visit({ site_id: "shop" }, away)).text), true);
      const kept = await visit({ site_id: "shop" }, away);
      expect(kept.text).toContain("Redis is unreachable: events are kept aside, as long as there is room, until they can be counted.");
      expect(figures(kept.html)).toEqual(["0", "0", "0"]);
      redis.set({});
    } finally {
      await away.close();
      await proxy.close();
      await redis.close();
    }
  });

  test("is left out where counting it takes too long, and all else is there", async () => {
    const slow = await openWorld();
    try {
      await slow.send([{ site_id: "slow", event_type: "pageview", path: "/", user_id: "u" }]);
      await slow.recordAll();
      const days = { site_id: "slow", from: new Date(Date.now() - 6 * DAY_MS).toISOString().slice(0, 10), to: new Date().toISOString().slice(0, 10) };
      expect(figures((await visit(days, slow)).html)).toEqual(["1", "1", "1"]);
      await slow.sql("update event_days set users = 5000001");
      const many = await visit(days, slow);
      expect([figures(many.html), many.text.includes("too many days to count: choose fewer"), bars(many.html)]).toEqual([["1", "–", "1"], true, ["/ 1", "pageview 1"]]);
      await slow.context.db.transaction(async (tx) => {
        await tx.query("lock table event_path_days in access exclusive mode");
        const { status, html, text } = await visit(days, slow);
        expect([status, figures(html), bars(html)]).toEqual([200, ["1", "–", "1"], ["pageview 1"]]); // the chart knows the views
        expect(text).toContain("PostgreSQL did not answer everything in time: what is missing is left out. Fewer days take less time.");
        expect(text).toContain("Not counted in time: choose fewer days.");
        expect(text).not.toContain("unreachable");
      });
      await slow.context.db.transaction(async (tx) => {
        await tx.query("lock table events in access exclusive mode");
        const { html, text } = await visit({ site_id: "slow" }, slow);
        expect([figures(html), bars(html)]).toEqual([["1", "5,000,001", "1"], ["/ 1", "pageview 1"]]); // a day of UTC has its users counted already
        expect(text).toContain("what is missing is left out. slow Today"); // of one day nobody can choose fewer
        expect(text).toContain("This list comes from PostgreSQL, which does not answer right now.");
        expect(html).toMatch(/id="latest-empty" hidden/);
      });
    } finally {
      await slow.close();
    }
  });

  test("is said of refused events also where the database is silent", async () => {
    const proxy = await throughFaultProxy(servers.pgUri());
    const full = await openWorld({ REDIS_URL: "redis://127.0.0.1:1", REDIS_TIMEOUT_MS: "200", MAX_EVENT_SPOOL_BYTES: "0" }, { databaseHost: new URL(proxy.url).host });
    try {
      expect((await full.send({ site_id: "s", event_type: "x" })).status).toBe(503);
      proxy.set({ blackhole: true });
      const { text } = await visit({ site_id: "s" }, full);
      expect(text).toContain("PostgreSQL is unreachable");
      expect(text).toMatch(/Refused since [\d :-]+: 1 request with events, the last one [\d.]+ s ago \(EVENTS_BACKLOG_FULL\)/);
      expect(text).not.toMatch(/events are accepted/i);
    } finally {
      proxy.set({});
      await full.close();
      await proxy.close();
    }
  });

  test("is said of what could not be recorded, and of what waits for long; else nothing is", async () => {
    expect((await visit({ site_id: "shop" })).html).not.toContain('class="state"');
    await empty.sql("insert into event_dead_letters (batch_id, reason, message, events) values ('x', 'MALFORMED', 'planted', 3)");
    expect((await visit({ site_id: "shop" }, empty)).text).toContain("Could not be recorded: 1 batch, 3 events.");
    await empty.redis.del(empty.context.eventsStream); // so that an id of the past is taken
    await empty.redis.xadd(empty.context.eventsStream, `${Date.now() - 65_000}-0`, "key", "x", "body", "[]");
    expect((await visit({ site_id: "shop" }, empty)).text).toMatch(/Not in the figures yet: 1 batch of events; the oldest has waited for 1 min \d+ s\./);
    await empty.redis.del(empty.context.eventsStream);
  });
});

describe("the chart", () => {
  const from = new Date("2026-01-01T00:00:00Z");
  const points = (counts: number[], stepMs: number) => counts.map((events, index) => {
    const beginsAt = new Date(from.getTime() + index * stepMs);
    return { day: beginsAt.toISOString().slice(0, 10), beginsAt, events };
  });

  test.each([[1, [1, 0]], [4, [4, 3, 2, 1, 0]], [5, [6, 4, 2, 0]], [97, [100, 50, 0]], [1_234_567, [1_500_000, 1_000_000, 500_000, 0]]])("has whole, round figures beside it: up to %i", (most, ticks) => {
    const chart = drawSeries(points([0, most], DAY_MS), "day", "UTC", from);
    expect(chart.ticks.map(({ count }) => count)).toEqual(ticks);
    expect(chart.bars.every(({ y, height }) => y >= 0 && y + height <= chart.height + 0.01)).toBe(true);
  });

  test("shows the least as something, nothing as nothing, and marks what is not over", () => {
    const { bars, highest } = drawSeries(points([0, 1, 1_000_000], DAY_MS), "day", "UTC", new Date("2026-01-03T23:59:59Z"));
    expect(bars.map(({ height, now }) => [height > 0, now])).toEqual([[false, false], [true, false], [true, true]]);
    expect(highest?.when).toBe("3 Jan 2026");
    expect(drawSeries(points([0], DAY_MS), "day", "UTC", from).highest).toBeUndefined();
  });

  test.each([1, 2, 7, 30, 180, 181, 365, 731])("names at most ten of %i days", (count) => {
    const { labels, bars } = drawSeries(points(Array(count).fill(1), DAY_MS), "day", "UTC", from);
    expect([labels.length >= 1, labels.length <= 10, bars.length]).toEqual([true, true, count]);
  });
});

test("the server and the browser write times alike, when clocks are put forward and back as well", async () => {
  const browser: { timesIn(zone: string): (instant: Date) => string } = await import(new URL("../../public/analytics/zone-time.js", import.meta.url).href);
  for (const zone of ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"]) {
    const write = browser.timesIn(zone);
    for (let at = Date.UTC(2026, 2, 1); at < Date.UTC(2026, 10, 15); at += 7 * HOUR_MS + 61_000) expect(write(new Date(at))).toBe(serverTimes.zoneTime(new Date(at), zone));
  }
  expect(serverTimes.zoneTime(new Date("2026-11-22T00:00:05Z"), "UTC")).toBe("2026-11-22 00:00:05");
});
