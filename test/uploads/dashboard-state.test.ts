import type { Browser, Page } from "puppeteer";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import type { KnowsItsDisk } from "../../src/objects/object-store.ts";
import { openWorkload } from "../../src/main/workload.ts";
import { openBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { fetch } from "../support/fetch.ts";
import { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

let browser: Browser;
beforeAll(async () => void (browser = await openBrowser()));
afterAll(() => browser.close());

const figuresAt = async (url: string) => (await fetch(`${url}/api/live`, { headers: { Accept: "application/json" } })).json();
type Roomy = Pick<KnowsItsDisk, "room">;
const WELL = { level: "good", lines: ["All is well."] };

/** The line of state on one page that stays open, and on one that came whole from the server; they must agree. */
async function openStates(url: string) {
  const [live, plain] = await Promise.all([browser.newPage(), browser.newPage()]);
  await plain!.setJavaScriptEnabled(false);
  await live!.goto(`${url}/dashboard`, { waitUntil: "load" });
  const stateOf = (page: typeof live) => page!.$eval("#state", (state) => ({
    level: state.dataset.level, lines: [...state.querySelectorAll("p")].filter((line) => line.checkVisibility()).map((line) => line.textContent!.trim()),
  }));
  return {
    async shown() {
      await plain!.goto(`${url}/dashboard`);
      const [byScript, byServer] = [await stateOf(live), await stateOf(plain)];
      return JSON.stringify(byScript) === JSON.stringify(byServer) ? byServer : { byScript, byServer };
    },
    close: () => Promise.all([live!.close(), plain!.close()]),
  };
}

describe("the line of state, with JavaScript and without", () => {
  let world: World;
  let states: Awaited<ReturnType<typeof openStates>>;
  beforeAll(async () => {
    world = await openWorld();
    states = await openStates(world.url);
  });
  afterAll(async () => {
    await states.close();
    await world.close();
  });

  test.each([
    ["storage", "warn", "The storage is unreachable or full: uploads go on, and wait in the inbox."],
    ["inbox", "bad", "The inbox is unreachable or full: uploads are refused until it is back."],
  ] as const)("says that %s does not answer, and that all is well when it does again", async (name, level, sentence) => {
    await eventually(states.shown, WELL);
    const store = name === "inbox" ? world.context.inbox.store : world.context.storage;
    const { ping } = store;
    store.ping = () => Promise.reject(new Unavailable(name, { cause: "unplugged by a test" }));
    try {
      await eventually(async () => (await figuresAt(world.url)).degraded, [name]);
      await eventually(states.shown, { level, lines: [sentence] });
    } finally {
      store.ping = ping;
    }
    await eventually(states.shown, WELL);
  });

  test("says that storage does not answer when it hangs, within seconds, and asks it no second time meanwhile", async () => {
    const { ping } = world.context.storage;
    let asked = 0;
    let release = () => {};
    world.context.storage.ping = () => new Promise((resolve) => void (asked++, (release = resolve)));
    try {
      for (let i = 0; i < 2; i++) {
        await eventually(async () => (await figuresAt(world.url)).degraded, ["storage"]);
        const startedAt = performance.now();
        expect((await fetch(`${world.url}/dashboard`)).status).toBe(200);
        expect(performance.now() - startedAt).toBeLessThan(4_000);
      }
      expect(asked).toBe(1);
    } finally {
      world.context.storage.ping = ping;
      release();
    }
    await eventually(states.shown, WELL);
  }, 30_000);

  test("says that every worker is paused, and for what, and not while one of them is at work", async () => {
    await eventually(states.shown, WELL);
    const say = (name: string, state: string, because: string | null) => world.context.workers.say(name, JSON.stringify({
      state, because, entries: null, settled: 0, started_at: new Date().toISOString(), active_at: null,
    }));
    const [one, other] = ["paused-a", "paused-b"];
    const held = async () => {
      await Promise.all([say(one, "paused", "storage"), say(other, "paused", "postgres")]);
      return states.shown();
    };
    await eventually(held, { level: "warn", lines: ["Every worker is paused (postgres, storage): uploads are accepted, and wait."] });
    expect((await figuresAt(world.url)).all_paused_by).toEqual(["postgres", "storage"]);
    const working = async () => {
      await Promise.all([say(one, "paused", "storage"), say(other, "working", null)]);
      return states.shown();
    };
    await eventually(working, WELL);
    await Promise.all([world.context.workers.leave(one), world.context.workers.leave(other)]);
  });
});

test("a worker that cannot reach the storage pauses, and the line says both", async () => {
  const proxy = await openS3FaultProxy(servers.s3().endpoint);
  const world = await openWorld({ STORAGE_MODE: "s3", S3_ENDPOINT: proxy.endpoint, S3_TIMEOUT_SECONDS: "4" });
  const workload = await openWorkload(world.context);
  try {
    proxy.set({ down: true });
    await world.put("held.txt", "held up");
    await eventually(async () => {
      const { degraded, all_paused_by } = await figuresAt(world.url);
      return { degraded, all_paused_by };
    }, { degraded: ["storage"], all_paused_by: ["storage"] }, 25_000);
    const page = await (await fetch(`${world.url}/dashboard`)).text();
    expect(page).toMatch(/<p data-dependency="storage" data-level="warn">/);
    expect(page).toMatch(/<p data-well hidden>/);
  } finally {
    proxy.set({});
    await workload.stop();
    await world.close();
    await proxy.close();
  }
}, 60_000);

test("a bucket is not asked more often than every ten seconds, however many look on", async () => {
  const world = await openWorld({ STORAGE_MODE: "s3" });
  try {
    let asked = 0;
    const { ping } = world.context.storage;
    world.context.storage.ping = () => (asked++, ping());
    let told = "";
    const startedAt = performance.now();
    await eventually(async () => {
      const { timestamp } = await figuresAt(world.url);
      const isNew = told !== "" && timestamp !== told;
      told = timestamp;
      return isNew;
    }, true);
    expect(asked).toBeGreaterThan(0);
    expect(asked).toBeLessThanOrEqual(1 + Math.floor((performance.now() - startedAt) / 10_000));
  } finally {
    await world.close();
  }
});

test("with the inbox's disk nearly full it says that uploads are refused, as they are", async () => {
  const world = await openWorld({ MIN_FREE_BYTES: String(2 ** 50) });
  const states = await openStates(world.url);
  try {
    expect((await world.put("large.bin", new Uint8Array(1_000_000))).status).toBe(507);
    const { space_warning } = await figuresAt(world.url);
    expect(space_warning).toMatch(/^its disk is nearly full: .* refused \(507\)/);
    expect((await (await fetch(`${world.url}/ready`)).json()).dependencies.inbox.warning).toBe(space_warning);
    await eventually(states.shown, { level: "bad", lines: [`Inbox: ${space_warning}.`] });
  } finally {
    await states.close();
    await world.close();
  }
});

test("a list of what waits, without Redis, says that Redis does not answer, with JavaScript and without", async () => {
  const redis = await throughFaultProxy(servers.redisUrl());
  const world = await openWorld({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500" });
  const [page, plain] = await Promise.all([browser.newPage(), browser.newPage()]);
  const unknown = (page: Page) => page.$eval("#recent-unknown", (line) => (line.checkVisibility() ? line.textContent!.trim() : null));
  try {
    await page.goto(`${world.url}/dashboard`, { waitUntil: "load" });
    redis.set({ down: true });
    await eventually(async () => (await figuresAt(world.url)).degraded, ["redis"]);
    await page.select("#status", "waiting");
    await eventually(() => unknown(page), "This list cannot be read. Redis is not reachable right now. Try again in a moment.");
    await plain.setJavaScriptEnabled(false);
    await plain.goto(`${world.url}/dashboard?status=waiting`);
    expect(await unknown(plain)).toBe("This list comes from Redis, which does not answer right now.");
  } finally {
    await Promise.all([page.close(), plain.close()]);
    redis.set({});
    await eventually(() => world.context.redis.status, "ready");
    await world.close();
    await redis.close();
  }
}, 60_000);

test("a search that found nothing yet, with older files behind it, says so; 'stored' says what it counts, and the disk with less room is told", async () => {
  const world = await openWorld();
  const page = await browser.newPage();
  try {
    const twins = ["one.txt", "other.txt"];
    for (const name of twins) await world.put(name, "the same");
    await world.settleAll();
    const { inbox, storage } = world.context;
    const room = { ofInbox: (inbox.store as unknown as Roomy).room, ofStorage: (storage as unknown as Roomy).room };
    (inbox.store as unknown as Roomy).room = () => ({ ...room.ofInbox(), freeBytes: 3 * 2 ** 40 });
    (storage as unknown as Roomy).room = () => ({ ...room.ofStorage(), freeBytes: 5 * 2 ** 40 });
    await page.evaluateOnNewDocument(`{
      const { fetch } = globalThis; // not by interception of requests, which does not go well with a stream that stays open
      globalThis.fetch = async (url, init) => (String(url).includes("/api/files?") ? Response.json({ files: [], next_cursor: "older" }) : fetch(url, init));
    }`);
    await page.goto(`${world.url}/dashboard`, { waitUntil: "load" });
    const free = () => page.$eval('[data-figure="free"]', (figure) => figure.textContent);
    await eventually(async () => [await free(), (await (await fetch(`${world.url}/dashboard`)).text()).includes('data-figure="free">3 TiB<')], ["3 TiB", true]);
    expect(await page.$eval('[data-figure="stored"] + .soft', (caption) => caption.textContent)).toContain("in files; same bytes are kept once");
    expect((await figuresAt(world.url)).storage.used_bytes).toBe(16);
    await page.type("#q", "needle");
    await page.click("#filter button");
    await eventually(() => page.$eval("#found", (line) => line.textContent), expect.stringMatching(/^So far none found as of /));
  } finally {
    await page.close();
    await world.close();
  }
});
