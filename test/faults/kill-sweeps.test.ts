import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAILPOINTS, type FailpointName } from "../../src/core/failpoints.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge } from "./oracle.ts";

const OF_THE_WEB = FAILPOINTS.slice(0, FAILPOINTS.indexOf("batch-read"));
const OF_THE_WORKER = FAILPOINTS.slice(FAILPOINTS.indexOf("batch-read"), FAILPOINTS.indexOf("attempt-counted"));
const OF_A_DEAD_LETTER = FAILPOINTS.slice(FAILPOINTS.indexOf("attempt-counted"), FAILPOINTS.indexOf("inbox-listed"));
const OF_THE_RECONCILER = FAILPOINTS.slice(FAILPOINTS.indexOf("inbox-listed"));

let hub: Hub;
const dead: string[] = [];
beforeAll(async () => {
  hub = await openHub();
  await hub.start();
});
afterAll(() => hub.close());

describe("web killed", () => {
  test.each(OF_THE_WEB.flatMap((step) => [1, 2, 5].map((time) => [step, time] as const)))("at %s, the %i. time", async (step, time) => {
    await sweep("web", step, time);
  });
});

describe("the worker killed", () => {
  test.each(OF_THE_WORKER.flatMap((step) => [1, 2, 5].map((time) => [step, time] as const)))("at %s, the %i. time", async (step, time) => {
    await sweep("worker", step, time);
  });
});

describe("the reconciler killed", () => {
  test.each(OF_THE_RECONCILER)("at %s", async (step) => {
    const { worker } = hub;
    await worker.kill();
    const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes: [900, 300_000] });
    await crowd.more(20);
    await crowd.stop();
    await hub.redis.del(hub.stream); // only the reconciler knows of them now
    await worker.start({ FAILPOINTS: `${step}=kill` });
    await worker.died();
    expect(worker.output()).toContain(`failpoint ${step}: kill`);
    await worker.start();
    await judge(hub, { crowds: [crowd], deadLetters: dead, orphansLater: true });
  });
});

describe("the worker killed as it gives an upload up", () => {
  test.each(OF_A_DEAD_LETTER.flatMap((step) => [1, 2, 3].map((time) => [step, time] as const)).filter(([step, time]) => step === "attempt-counted" || time === 1))(
    "at %s, the %i. time", async (step, time) => {
      const { worker } = hub;
      await worker.kill();
      const crowd = openCrowd({ urls: hub.urls, clients: 2, sizes: [300_000], repeated: 0 });
      await crowd.more(3);
      await crowd.stop();
      const [poison] = [...crowd.acknowledged.keys()];
      await hub.damageInbox(poison!);
      dead.push(poison!);
      await worker.start({ FAILPOINTS: `${step}=kill@${time}` });
      await worker.died();
      expect(worker.output()).toContain(`failpoint ${step}: kill`);
      await worker.start();
      await judge(hub, { crowds: [crowd], deadLetters: dead, orphansLater: true });
      expect(await hub.sql("select attempts from dead_letters where upload_id = $1", [poison])).toEqual([{ attempts: 3 }]);
    });
});

test("and in the end nothing is left of all of them, not one orphaned byte", async () => {
  await judge(hub, { crowds: [], deadLetters: dead });
});

/** One process dies there, amid uploads, and is started again; the clients go on as if nothing were. */
async function sweep(which: "web" | "worker", step: FailpointName, time: number): Promise<void> {
  const slot = hub[which];
  await slot.restart({ FAILPOINTS: `${step}=kill@${time}` });
  const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes: [900, 300_000] });
  await slot.died();
  expect(slot.output()).toContain(`failpoint ${step}: kill`);
  await slot.start();
  await crowd.more(20);
  await crowd.stop();
  await judge(hub, { crowds: [crowd], deadLetters: dead, orphansLater: true });
}
