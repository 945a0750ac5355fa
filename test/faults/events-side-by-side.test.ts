import { afterEach, describe, expect, test } from "vitest";
import type { FailpointName } from "../../src/core/failpoints.ts";
import { eventually } from "../support/eventually.ts";
import { openEventsCrowd } from "./events-crowd.ts";
import { judgeEvents } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";

let hub: Hub;
afterEach(() => hub.close());

test("two web processes and two workers, each event sent five times at once over both endpoints: it is there once, without a deadlock", async () => {
  hub = await openHub({ webs: 2, workers: 2 });
  await hub.start();
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0, times: 5, sizes: [1, 3, 20, 100], everyMs: 0 });
  await crowd.more(600);
  await crowd.stop();
  await judgeEvents(hub, { crowds: [crowd] });
  for (const worker of hub.workers) expect(worker.output()).toContain('"msg":"events recorded"');
  expect(await hub.sql("select deadlocks::int from pg_stat_database where datname = current_database()")).toEqual([{ deadlocks: 0 }]);
});

// Not after batch-acknowledged: nothing is left that another could take over.
describe("a worker that stands still past its claim", () => {
  let sleeper: Hub["slots"][number];
  let other: Hub["slots"][number];
  let crowd: ReturnType<typeof openEventsCrowd>;

  /** @param idleInTransactionMs  a worker has two recorders: the other one may stand still in the midst of its transaction, with locks that all need */
  async function standStill(step: FailpointName, idleInTransactionMs: number): Promise<void> {
    hub = await openHub({ workers: 2 });
    [sleeper, other] = [hub.workers[0]!, hub.workers[1]!];
    await hub.web.start();
    const database = new URL(hub.databaseUri);
    database.searchParams.set("idle_in_transaction_session_timeout", String(idleInTransactionMs));
    await sleeper.start({ FAILPOINTS: `${step}=stop@2`, PG_URI: database.href });
    crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5, everyMs: 30 });
    await eventually(() => sleeper.output().includes(`failpoint ${step}: stop`), true, 60_000);
    await other.start();
  }

  async function wakeUp(): Promise<void> {
    await crowd.more(10);
    sleeper.resume();
    await crowd.more(10);
    await crowd.stop();
    await judgeEvents(hub, { crowds: [crowd] });
  }

  test.each<FailpointName>(["batch-read", "events-recorded"])("after %s: another takes its batch over, and when it wakes up it does no harm", async (step) => {
    await standStill(step, 3_000); // in place of a minute
    await eventually(() => other.output().includes("took over entries that a consumer left"), true, 60_000);
    await eventually(() => other.output().includes('"msg":"events recorded"'), true, 60_000);
    await wakeUp();
  });

  test("after events-written, in a transaction: others wait for its COMMIT, and then what it recorded is recorded once", async () => {
    await standStill("events-written", 60_000);
    const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() and application_name like 'connectstorm%'";
    await eventually(async () => (await hub.sql(waiting)).length > 0, true, 30_000);
    await wakeUp();
  });
});

test("everything ended by SIGTERM under load, one after the other, and then killed at once: each ends in order with 0, and every event is there once", async () => {
  hub = await openHub({ webs: 2, workers: 2 });
  await hub.start();
  const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.1 });
  for (const slot of hub.slots) {
    await crowd.more(20);
    const program = slot.program()!;
    await slot.kill("SIGTERM");
    expect(await program.exit).toBe(0);
    expect(slot.output()).toContain('"msg":"stopped"');
    await slot.start();
  }
  for (let round = 0; round < 2; round++) {
    await crowd.more(30);
    await Promise.all(hub.slots.map((slot) => slot.kill()));
    await hub.start();
  }
  await crowd.stop();
  await judgeEvents(hub, { crowds: [crowd] });
});
