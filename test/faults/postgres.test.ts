import { afterEach, beforeEach, describe, expect, test } from "vitest";
import pg from "pg";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { startOwnPostgres } from "../support/own-servers.ts";
import { openCrowd, type Crowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

/** More than there are questions that need the database. */
const CONNECTIONS = 24;

let postgres: Awaited<ReturnType<typeof startOwnPostgres>>;
let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
let hub: Hub;
beforeEach(async () => {
  postgres = await startOwnPostgres();
  proxy = await throughFaultProxy(postgres.uri);
  hub = await openHub({ pgUri: postgres.uri, through: { postgres: new URL(proxy.url).host }, workers: 2, settings: { CONSUMER_BATCH_SIZE: "5" } });
  await hub.start();
});
afterEach(async () => {
  await hub.close();
  await proxy.close();
  await postgres.close();
});

/** The door never closed, and nobody was blamed for what the database did. */
async function expectPatience(crowd: Crowd): Promise<void> {
  expect(Object.keys(crowd.answers)).toEqual(["202"]);
  expect(await hub.sql("select upload_id from dead_letters")).toEqual([]);
  expect(await hub.sql("select upload_id from settle_attempts")).toEqual([]);
}

test("PostgreSQL killed in a loop, amid commits: uploads go on, no attempt is spent, each upload is there once", async () => {
  const crowd = openCrowd({ urls: hub.urls, everyMs: 15, keyless: 0.5 });
  for (let round = 0; round < 3; round++) {
    await crowd.more(40);
    if (round === 0) takeBaseline(hub);
    await postgres.kill();
    await crowd.more(20);
    await postgres.start();
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

describe.each([["down", { down: true }], ["silent", { blackhole: true }]])("PostgreSQL %s", (_how, faults) => {
  test("uploads go on and wait, the dashboard says so, and all is settled when it is back", async () => {
    const crowd = openCrowd({ urls: hub.urls, everyMs: 50, keyless: 1 });
    await crowd.more(20);
    takeBaseline(hub);
    proxy.set(faults);
    await crowd.more(60, 60_000);
    const page = await fetch(`${hub.web.url}/dashboard`, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(20_000) });
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('data-level="warn">PostgreSQL is unreachable: uploads go on')]);
    proxy.set({});
    await crowd.stop();
    await judge(hub, { crowds: [crowd], withinMs: 80_000 }); // a silent connection is given up after 35 s
    await expectPatience(crowd);
  });
});

describe.each([["down", { down: true }], ["silent", { blackhole: true }]])("PostgreSQL %s, with idle connections in the pool", (_how, faults) => {
  const NOW_NOT = "PostgreSQL is not reachable right now. Try again in a moment.";
  const UNAVAILABLE = { status: 503, retryAfter: "5", says: [`"error":"${NOW_NOT}","code":"UNAVAILABLE"`] };
  const ERROR_PAGE = { status: 503, retryAfter: "5", says: [NOW_NOT, "Files you hold a receipt for are safe."] };

  test("every page and endpoint says so within seconds, and gives what the inbox alone knows", async () => {
    await hub.web.restart({ PG_POOL_SIZE: String(CONNECTIONS) });
    const { file_id: stored } = await handIn("stored.txt", "in the ledger");
    await eventually(() => statusOf(stored), "stored");
    await eventually(async () => (await hub.inboxKeys()).filter((key) => key.startsWith("manifests/")), []); // else it is known there, too
    await Promise.all(hub.workers.map((worker) => worker.kill()));
    const { file_id: waiting } = await handIn("waiting.txt", "in the inbox");
    await warmPool();
    proxy.set(faults);

    const asked: { path: string; how?: RequestInit; status: number; retryAfter?: string; says: (string | RegExp)[] }[] = [
      { path: "/dashboard", status: 200, says: [
        '<p data-dependency="postgres" data-level="warn">PostgreSQL is unreachable: uploads go on, and reach the ledger when it is back.</p>',
        '<p class="empty" id="recent-unknown">This list comes from PostgreSQL, which does not answer right now.</p>',
        'id="audit" data-level="unknown"',
      ] },
      { path: "/upload", status: 200, says: ["Hand in files"] },
      { path: `/upload/${stored}`, ...ERROR_PAGE },
      { path: `/upload/${waiting}`, status: 200, says: ["Received. It is safe now.", "waiting.txt"] },
      { path: "/dead-letters", status: 503, retryAfter: "5", says: ["The list cannot be read right now", "It is kept in PostgreSQL, which does not answer. Nothing is lost"] },
      { path: `/dead-letters/${stored}/discard`, ...ERROR_PAGE },
      { path: `/dead-letters/${stored}/retry`, how: { method: "POST" }, status: 303, says: ["/dead-letters?done=unavailable"] },
      { path: "/api/files", ...UNAVAILABLE },
      { path: `/api/files/${stored}`, ...UNAVAILABLE },
      { path: `/api/files/${stored}`, how: { headers: { Accept: "application/json" } }, ...UNAVAILABLE },
      { path: `/api/files/${stored}/status`, ...UNAVAILABLE },
      { path: `/api/files/${waiting}`, status: 200, says: ["in the inbox"] },
      { path: `/api/files/${waiting}`, how: { headers: { Accept: "application/json" } }, status: 200, says: ['"name":"waiting.txt"'] },
      { path: `/api/files/${waiting}/status`, status: 200, says: ['"status":"accepted"'] },
      { path: "/api/dead-letters", ...UNAVAILABLE },
      { path: `/api/dead-letters/${stored}/retry`, how: { method: "POST" }, ...UNAVAILABLE },
      { path: "/api/dead-letters/retry", how: { method: "POST" }, ...UNAVAILABLE },
      { path: `/api/dead-letters/${stored}`, how: { method: "DELETE" }, ...UNAVAILABLE },
      { path: "/api/counts", status: 200, says: ['"timescale":null', '"degraded":["postgres"]'] },
      { path: "/api/live", how: { headers: { Accept: "application/json" } }, status: 200, says: [/"degraded":\[[^\]]*"postgres"/] },
      { path: "/api/history?range=30d", ...UNAVAILABLE },
      { path: "/api/audit", ...UNAVAILABLE },
      { path: "/ready", status: 200, says: [/"postgres":\{"ok":false/] },
      { path: "/health", status: 200, says: ['"status":"ok"'] },
    ];
    const answers = await Promise.all(asked.map(async ({ path, how }) => {
      const startedAt = performance.now();
      const response = await ask(path, how);
      const text = (response.headers.get("location") ?? "") + (await response.text());
      return { status: response.status, retryAfter: response.headers.get("retry-after"), text, tookMs: performance.now() - startedAt };
    }));
    for (const [index, { path, how, status, retryAfter = null, says }] of asked.entries()) {
      const { text, ...answer } = answers[index]!;
      const question = `${how?.method ?? "GET"} ${path}`;
      expect([question, answer.status, answer.retryAfter]).toEqual([question, status, retryAfter]);
      for (const sentence of says) expect(text, question).toMatch(sentence);
      if (path !== "/ready") expect(text, question).not.toMatch(/ECONN|timeout expired| at .*\.js/); // that one is for who runs it
      expect(answer.tookMs, question).toBeLessThan(15_000); // three seconds and what a loaded machine takes; without a budget it would be 30
    }
  });

  /** As the page's form does it, where it is a page. */
  function ask(path: string, how: RequestInit = {}): Promise<Response> {
    const accept = path.startsWith("/api/") || path === "/ready" ? "*/*" : "text/html";
    return fetch(hub.web.url + path, { redirect: "manual", ...how, headers: { Accept: accept, ...how.headers }, signal: AbortSignal.timeout(20_000) });
  }

  async function handIn(name: string, body: string): Promise<{ file_id: string }> {
    return (await fetch(`${hub.web.url}/api/upload/${name}`, { method: "PUT", body })).json() as Promise<{ file_id: string }>;
  }

  async function statusOf(id: string): Promise<string> {
    return ((await (await fetch(`${hub.web.url}/api/files/${id}/status`)).json()) as { status: string }).status;
  }

  /** As many requests as there are connections, held until each has its own. */
  async function warmPool(): Promise<void> {
    const holder = new pg.Client({ connectionString: hub.databaseUri });
    await holder.connect();
    await holder.query("begin");
    await holder.query("lock table files in access exclusive mode");
    const requests = Array.from({ length: CONNECTIONS }, () => fetch(`${hub.web.url}/api/files`));
    await eventually(() => connectionsOf("active"), CONNECTIONS);
    await holder.end();
    await Promise.all(requests);
    await eventually(() => connectionsOf("idle"), CONNECTIONS);
  }

  async function connectionsOf(state: string): Promise<number> {
    const [found] = await hub.sql<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where state = $1 and application_name like $2", [state, `connectstorm %-${hub.web.program()!.pid}-%`]);
    return found!.count;
  }
});

test("connections cut again and again, in the middle of whatever they were at", async () => {
  const crowd = openCrowd({ urls: hub.urls, keyless: 0.5 });
  for (let round = 0; round < 15; round++) {
    await crowd.more(10);
    if (round === 0) takeBaseline(hub);
    await hub.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'connectstorm%'");
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

test("answers lost after the COMMIT was carried out: what is delivered again changes nothing", async () => {
  const crowd = openCrowd({ urls: hub.urls, keyless: 1 });
  for (const bytes of [1, 2, 5, 20, 60, 100, 200, 400, 800, 1_600]) {
    proxy.set({ cutAfterBytes: bytes });
    await crowd.more(15);
  }
  proxy.set({});
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});

test("every connection of the pool held: who needs one is told within seconds, and uploads go on", async () => {
  const crowd = openCrowd({ urls: hub.urls, everyMs: 60, keyless: 1 });
  await crowd.more(20);
  takeBaseline(hub);
  const holder = new pg.Client({ connectionString: hub.databaseUri });
  await holder.connect();
  await holder.query("begin");
  await holder.query("lock table files in access exclusive mode");
  const waiting = Array.from({ length: 5 }, () => fetch(`${hub.web.url}/api/files`)); // PG_POOL_SIZE of them
  const startedAt = Date.now();
  const refused = await fetch(`${hub.web.url}/api/files`);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
  expect(Date.now() - startedAt).toBeLessThan(15_000);
  await crowd.more(20);
  await holder.query("rollback");
  await holder.end();
  await Promise.all(waiting);
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  await expectPatience(crowd);
});
