import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Config } from "../../src/core/config.ts";
import { PROTOCOL_STEPS, type FailpointName } from "../../src/core/failpoints.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

export const OF_THE_WEB = PROTOCOL_STEPS.slice(0, PROTOCOL_STEPS.indexOf("batch-read"));
export const OF_THE_WORKER = PROTOCOL_STEPS.slice(PROTOCOL_STEPS.indexOf("batch-read"), PROTOCOL_STEPS.indexOf("attempt-counted"));
const OF_A_DEAD_LETTER = PROTOCOL_STEPS.slice(PROTOCOL_STEPS.indexOf("attempt-counted"), PROTOCOL_STEPS.indexOf("inbox-listed"));
const OF_THE_RECONCILER = PROTOCOL_STEPS.slice(PROTOCOL_STEPS.indexOf("inbox-listed"));

export interface KillSweeps {
  settings: Partial<Record<keyof Config, string>>;
  /** The how manieth time at a step kills. */
  times: number[];
  /** In bytes; some of them above SMALL_OBJECT_BYTES. */
  sizes: number[];
  /** Where only few of `sizes` come to a step at all. */
  sizesAt?: Partial<Record<FailpointName, number[]>>;
  /** Steps named for a web process that the worker comes to as well, here. */
  alsoOfTheWorker?: FailpointName[];
}

/** Registers the tests: one system, of which a process is killed at every step of the protocol, one after the other. */
export function sweepKills({ settings, times, sizes, sizesAt = {}, alsoOfTheWorker = [] }: KillSweeps): void {
  let hub: Hub;
  const dead: string[] = [];
  beforeAll(async () => {
    hub = await openHub({ settings });
    await hub.start();
  });
  afterAll(() => hub.close());

  const eachTime = (steps: readonly FailpointName[]) => steps.flatMap((step) => times.map((time) => [step, time] as const));

  describe("web killed", () => {
    test.each(eachTime(OF_THE_WEB))("at %s, the %i. time", async (step, time) => {
      await sweep("web", step, time);
    });
  });

  describe("the worker killed", () => {
    test.each(eachTime([...alsoOfTheWorker, ...OF_THE_WORKER]))("at %s, the %i. time", async (step, time) => {
      await sweep("worker", step, time);
    });
  });

  describe("the reconciler killed", () => {
    test.each(OF_THE_RECONCILER)("at %s", async (step) => {
      const { worker } = hub;
      await worker.kill();
      const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes });
      await crowd.more(20);
      await crowd.stop();
      await hub.redis.del(hub.stream); // only the reconciler knows of them now
      await (await startDoomed(worker, step, 1)).died();
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
        await (await startDoomed(worker, step, time)).died();
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
    const doomed = await startDoomed(slot, step, time);
    const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes: sizesAt[step] ?? sizes, everyMs: 60 });
    await doomed.died();
    await slot.start();
    await crowd.more(20);
    await crowd.stop();
    // What the allocator keeps of parts of 8 MiB, six clients' at once, is no leak; 256 MiB hold for it all the same.
    if (sizesAt[step]) takeBaseline(hub);
    await judge(hub, { crowds: [crowd], deadLetters: dead, orphansLater: true });
  }
}

/** To die there and nowhere else, of which its own last words have to tell. */
export async function startDoomed(slot: Hub["slots"][number], step: FailpointName, time = 1) {
  const said = slot.output().length;
  await slot.restart({ FAILPOINTS: `${step}=kill@${time}` });
  return {
    async died(): Promise<void> {
      await slot.died();
      expect(slot.output().slice(said)).toContain(`failpoint ${step}: kill`);
    },
  };
}
