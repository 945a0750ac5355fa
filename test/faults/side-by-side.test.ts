import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge } from "./oracle.ts";

let hub: Hub;
afterEach(() => hub.close());

test("two web processes and three workers share the work, and double nothing", async () => {
  hub = await openHub({ webs: 2, workers: 3, settings: { CONSUMER_BATCH_SIZE: "5" } });
  await hub.start();
  const crowd = openCrowd({ urls: hub.urls, clients: 12, everyMs: 0 });
  await crowd.more(600);
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  const shares = await hub.sql<{ rows: number }>("select count(*)::int as rows from file_events group by worker");
  expect(shares.length).toBe(3);
  for (const { rows } of shares) expect(rows).toBeGreaterThan(crowd.acknowledged.size / 20);
});

// Not after batch-acknowledged: nothing is left that another could take over.
describe("a worker that stands still past its claim", () => {
  test.each(["batch-read", "records-read", "objects-stored", "rows-committed", "manifests-removed", "inbox-removed"])(
    "after %s: another takes its batch over, and when it wakes up it does no harm", async (step) => {
      hub = await openHub({ workers: 2, settings: { CONSUMER_BATCH_SIZE: "10" } });
      const [sleeper, other] = [hub.workers[0]!, hub.workers[1]!];
      await hub.web.start();
      await sleeper.start({ FAILPOINTS: `${step}=stop@2` });
      const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes: [900, 300_000] });
      await eventually(() => sleeper.output().includes(`failpoint ${step}: stop`), true, 60_000);
      await other.start();
      await eventually(() => other.output().includes("took over entries that a consumer left"), true, 60_000);
      await crowd.more(20);
      await eventually(async () => (await hub.sql("select id from files")).length >= crowd.acknowledged.size - 20, true, 60_000);
      sleeper.resume();
      await crowd.more(20);
      await crowd.stop();
      await judge(hub, { crowds: [crowd] });
    });
});

/** The other one cannot count against the same upload meanwhile: it waits for the lock, and all that it took over with it. */
describe("a worker that stands still after attempt-counted, in a transaction", () => {
  let poison: string;
  let crowd: ReturnType<typeof openCrowd>;
  let sleeper: Hub["slots"][number];

  async function stopInTheTransaction(idleInTransactionMs: number): Promise<void> {
    hub = await openHub({ workers: 2 });
    const [first, other] = [hub.workers[0]!, hub.workers[1]!];
    sleeper = first;
    await hub.web.start();
    crowd = openCrowd({ urls: hub.urls, clients: 2, sizes: [300_000], repeated: 0 });
    await crowd.more(3);
    [poison = ""] = [...crowd.acknowledged.keys()];
    await hub.damageInbox(poison);
    const database = new URL(hub.databaseUri);
    database.searchParams.set("idle_in_transaction_session_timeout", String(idleInTransactionMs));
    await sleeper.start({ FAILPOINTS: "attempt-counted=stop@3", PG_URI: database.href }); // with the third the dead letter is written
    await eventually(() => sleeper.output().includes("failpoint attempt-counted: stop"), true, 60_000);
    await other.start();
    await eventually(() => other.output().includes("took over entries that a consumer left"), true, 60_000);
    await crowd.more(20);
  }

  async function judgeAll(): Promise<void> {
    await crowd.more(20);
    await crowd.stop();
    await judge(hub, { crowds: [crowd], deadLetters: [poison] });
    expect(await hub.sql("select attempts from dead_letters where upload_id = $1", [poison])).toEqual([{ attempts: 3 }]);
  }

  test("goes on while another waits for it: three attempts, one dead letter", async () => {
    await stopInTheTransaction(60_000);
    const waiting = () => hub.sql("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()");
    await eventually(async () => (await waiting()).length, 1, 30_000);
    sleeper.resume();
    await judgeAll();
  });

  test("stays there: PostgreSQL ends its transaction, another does the work, and when it wakes up it does no harm", async () => {
    await stopInTheTransaction(3_000); // in place of a minute
    await eventually(async () => (await hub.sql("select id from files")).length >= crowd.acknowledged.size - 20, true, 60_000);
    await eventually(async () => hub.sql("select attempts from dead_letters"), [{ attempts: 3 }], 60_000);
    sleeper.resume();
    await judgeAll();
  });
});

describe("a web process that stands still", () => {
  test.each(["file-written", "bytes-received", "manifest-committed", "entry-appended"])(
    "after %s, while its client tries again at another one: the upload is there once", async (step) => {
      hub = await openHub({ webs: 2, settings: { ORPHAN_AGE_SECONDS: "15" } }); // it does not stand still for so long
      const [sleeper, other] = [hub.webs[0]!, hub.webs[1]!];
      await Promise.all([sleeper.start({ FAILPOINTS: `${step}=stop@3` }), other.start(), hub.worker.start()]);
      // One client: a process stopped in the midst of another upload's commit holds the lock of the inbox's index, and all wait for it.
      const crowd = openCrowd({ urls: hub.urls, clients: 1, sizes: [900, 300_000], attemptTimeoutMs: 1_000 });
      await eventually(() => sleeper.output().includes(`failpoint ${step}: stop`), true, 60_000);
      await crowd.more(10);
      sleeper.resume();
      await crowd.more(10);
      await crowd.stop();
      await judge(hub, { crowds: [crowd] });
    });
});

test("SIGTERM under load: every process drains what it has in hand and ends with 0, again and again", async () => {
  hub = await openHub({ webs: 2, workers: 2 });
  await hub.start();
  const crowd = openCrowd({ urls: hub.urls, clients: 10, everyMs: 10 });
  for (const slot of [hub.webs[0]!, hub.workers[0]!, hub.webs[1]!, hub.workers[1]!]) {
    await crowd.more(40);
    const program = slot.program()!;
    const startedAt = Date.now();
    await slot.kill("SIGTERM");
    expect(await program.exit).toBe(0);
    expect(Date.now() - startedAt).toBeLessThan(10_000);
    expect(slot.output()).toContain('"msg":"stopped"');
    await slot.start();
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
});

test("everything killed at once, again and again: what was acknowledged is there once", async () => {
  hub = await openHub({ webs: 2, workers: 2 });
  await hub.start();
  const crowd = openCrowd({ urls: hub.urls, clients: 10, everyMs: 25 });
  for (let round = 0; round < 4; round++) {
    await crowd.more(50);
    await Promise.all(hub.slots.map((slot) => slot.kill()));
    await hub.start();
  }
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
});
