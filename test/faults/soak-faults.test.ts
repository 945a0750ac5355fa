import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { killedAtAStep } from "../soak/faults.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";

// What the soak counts as "killed at a step".
let hub: Hub;
beforeAll(async () => {
  hub = await openHub();
  await hub.start();
});
afterAll(() => hub.close());

test("a process that comes to the step is killed there", async () => {
  const crowd = openCrowd({ urls: hub.urls, clients: 2, sizes: [900] });
  expect(await killedAtAStep(hub.web, "manifest-committed", 3)).toBe(true);
  expect(await killedAtAStep(hub.worker, "batch-read", 1)).toBe(true);
  await crowd.stop();
});

test("one that does not, in a quiet moment, is killed where it is, and not counted as killed at the step", async () => {
  expect(await killedAtAStep(hub.web, "manifest-committed", 1, 200)).toBe(false);
});

test("one that dies of something else is told of", async () => {
  const before = hub.web.program();
  const killed = killedAtAStep(hub.web, "manifest-committed", 1);
  await eventually(() => hub.web.program() !== before && hub.web.program()!.output().includes("listening"), true);
  hub.web.program()!.kill("SIGABRT");
  await expect(killed).rejects.toThrow(/^web was to die at manifest-committed, and died of something else/);
});
