import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { newId } from "../../src/core/ids.ts";
import { createDeadLetters } from "../../src/uploads/dead-letters/dead-letters.ts";
import { deadLettersIn } from "../support/dead-letters.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openWorld, type World } from "../support/world.ts";

const OWNER = "00000000-0000-8000-8000-000000000000";

let world: World;
const { api, letters, allow, makeDead } = deadLettersIn(() => world);

describe("dead letters, with the inbox in a bucket that falls silent", () => {
  const headers = { "Idempotency-Key": "once-more" };
  let proxy: Awaited<ReturnType<typeof openS3FaultProxy>>;
  beforeEach(async () => {
    proxy = await openS3FaultProxy(servers.s3().endpoint);
    world = await openWorld({ INBOX: "s3", S3_ENDPOINT: proxy.endpoint, S3_TIMEOUT_SECONDS: "4" });
  });
  afterEach(async () => {
    proxy.set({ down: true });
    await world.close();
    await proxy.close();
  });

  const fallSilent = () => proxy.set({ hang: true, only: (_method, path) => path.includes("/manifests/") });
  const locked = () => world.sql("select mode from pg_locks where relation = 'dead_letters'::regclass and mode <> 'AccessShareLock'");

  async function timed(ask: () => ReturnType<typeof fetch>) {
    const startedAt = performance.now();
    const response = await ask();
    return { response, tookMs: performance.now() - startedAt };
  }

  test("are listed within seconds, without what only the inbox knows, and with it when it is back", async () => {
    const ids = await makeDead(3);
    const retriable = async () => (await (await api("")).json()).dead_letters.map((letter: { retriable: unknown }) => letter.retriable);
    expect(await retriable()).toEqual([true, true, true]);
    fallSilent();
    const [list, page] = await Promise.all([timed(() => api("")), timed(() => fetch(`${world.url}/dead-letters`, { headers: { Accept: "text/html" } }))]);
    expect((await list.response.json()).dead_letters).toMatchObject(ids.toReversed().map((id) => ({ id, retriable: null })));
    expect([page.response.status, await page.response.text()]).toEqual([200, expect.stringContaining("it is not known whether its bytes are there")]);
    expect(Math.max(list.tookMs, page.tookMs)).toBeLessThan(5_000);
    proxy.set({});
    await eventually(retriable, [true, true, true]);
  });

  test.each([["retried", "POST", (id: string) => `/${id}/retry`], ["retried all", "POST", () => "/retry"], ["discarded", "DELETE", (id: string) => `/${id}`]])(
    "are not %s: the answer is 503 within seconds, and nobody has to wait for a lock meanwhile", async (_what, method, path) => {
      const [id] = await makeDead();
      fallSilent();
      const asked = timed(() => api(path(id!), method));
      await eventually(() => proxy.counts().hung > 0, true);
      expect(await locked()).toEqual([]);
      const { response, tookMs } = await asked;
      expect([response.status, response.headers.get("retry-after"), (await response.json()).code]).toEqual([503, "5", "UNAVAILABLE"]);
      expect(tookMs).toBeLessThan(5_000);
      expect(await letters()).toEqual([{ upload_id: id }]);
    });

  test("are healed when it is back: until then nobody has to wait for a lock", async () => {
    const [id] = await makeDead(1, "bytes", headers);
    await world.context.inbox.store.remove([`manifests/${id}`]);
    await allow();
    fallSilent();
    const again = world.put("bad-0.bin", "bytes", headers);
    await eventually(() => proxy.counts().hung > 0, true);
    expect(await locked()).toEqual([]);
    proxy.set({});
    expect([(await again).status, await letters()]).toEqual([202, []]);
  });
});

describe("looking into an inbox that does not answer", () => {
  beforeEach(async () => {
    world = await openWorld();
  });
  afterEach(() => world.close());

  /** Dead letters whose looks into the inbox are answered when, and as, the test says. */
  async function openDeadLetters(count: number, inboxBudgetMs = 100) {
    await world.sql("insert into dead_letters (upload_id, owner_id, attempts, code, reason, first_failed_at) select unnest($2::uuid[]), $1, 3, 'X', 'x', now()",
      [OWNER, Array.from({ length: count }, newId)]);
    const looks: { resolve: (value: undefined) => void; reject: (error: unknown) => void }[] = [];
    const { db, inbox, log } = world.context;
    const findRetriable = () => new Promise<undefined>((resolve, reject) => void looks.push({ resolve, reject }));
    const deadLetters = createDeadLetters({ db, inbox: { ...inbox, findRetriable }, enqueue: async () => null, worker: "w", log, inboxBudgetMs });
    const list = async (cursor?: string) => {
      const page = await deadLetters.list(OWNER, 200, cursor);
      return { known: page.deadLetters.map(({ retriable }) => retriable), next: page.nextCursor ?? undefined };
    };
    return { looks, list };
  }

  test("is done for a share of a long list, and not for what others look at already", async () => {
    const { looks, list } = await openDeadLetters(120, 1_000);
    for (const begun of [50, 100, 120, 120, 120]) {
      expect((await list()).known).toEqual(Array(120).fill(null));
      expect(looks).toHaveLength(begun);
    }
    for (const { resolve } of looks) resolve(undefined);
    const asking = list();
    await eventually(() => looks.length, 170);
    for (const { resolve } of looks) resolve(undefined);
    expect((await asking).known.filter((known) => known === false).length).toBeGreaterThanOrEqual(50);
    looks.forEach(({ resolve }) => resolve(undefined));
  });

  test("is bounded, however many lists are asked for", async () => {
    const { looks, list } = await openDeadLetters(1_000);
    for (let round = 0; round < 5; round++) {
      for (let cursor: string | undefined, pages = 0; pages < 5; pages++) cursor = (await list(cursor)).next;
    }
    expect(looks).toHaveLength(500);
    for (const { resolve } of looks) resolve(undefined);
  });

  test("may fail when nobody waits for it any more", async () => {
    const { looks, list } = await openDeadLetters(2, 1_000);
    await list();
    looks[0]!.reject(new Unavailable("inbox"));
    looks[1]!.reject(new Error("a bug"));
    const asking = list();
    await eventually(() => looks.length, 4);
    for (const { resolve } of looks) resolve(undefined);
    expect((await asking).known).toEqual([false, false]);
  });
});
