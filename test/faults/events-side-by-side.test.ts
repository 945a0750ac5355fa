import { afterEach, describe, expect, test } from "vitest";
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
  test.each(["batch-read", "events-written", "events-recorded"])("after %s: another takes its batch over, and when it wakes up it does no harm", async (step) => {
    hub = await openHub({ workers: 2 });
    const [sleeper, other] = [hub.workers[0]!, hub.workers[1]!];
    await hub.web.start();
    await sleeper.start({ FAILPOINTS: `${step}=stop@2` });
    const crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5, everyMs: 30 });
    await eventually(() => sleeper.output().includes(`failpoint ${step}: stop`), true, 60_000);
    await other.start();
    await eventually(() => other.output().includes("took over entries that a consumer left"), true, 60_000);
    if (step === "events-written") {
      // In a transaction, whose COMMIT decides: the other one waits for it, and then finds all of it recorded.
      const waiting = () => hub.sql("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()");
      await eventually(async () => (await waiting()).length, 1, 30_000);
    } else {
      await eventually(() => other.output().includes('"msg":"events recorded"'), true, 60_000);
    }
    await crowd.more(10);
    sleeper.resume();
    await crowd.more(10);
    await crowd.stop();
    await judgeEvents(hub, { crowds: [crowd] });
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
