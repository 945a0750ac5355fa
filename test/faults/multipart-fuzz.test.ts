import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";
import { bodies } from "./fuzz/bodies.ts";
import { forms } from "./fuzz/forms.ts";
import { LIMITS, type FuzzRequest } from "./fuzz/request.ts";
import { createFuzzer, descriptors } from "./fuzz/runner.ts";
import { BODIES, FORMS } from "./run-counts.ts";

/** Every answer is a receipt or a refusal of ours, nothing hangs, nothing is left. A failure prints its seed and the simplest batch that shows it. */
const SEED = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };
const AT_ONCE = 25;

let world: World;
let fuzzer: ReturnType<typeof createFuzzer>;
beforeAll(async () => {
  world = await openWorld({ UPLOAD_IDLE_SECONDS: "1", SMALL_OBJECT_BYTES: String(LIMITS.smallBytes), MAX_UPLOAD_BYTES: String(LIMITS.mostBytes) });
  fuzzer = createFuzzer(world);
});
afterAll(() => world.close());

test.each<[string, fc.Arbitrary<FuzzRequest>, number]>([
  ["forms", forms, FORMS],
  ["bodies", bodies, BODIES],
])("%s of all kinds are taken as they are or refused in our words", async (_door, requests, promised) => {
  await fuzzer.run(fc.sample(requests, { numRuns: AT_ONCE, seed: 1 })); // what is opened once is open now
  const open = descriptors();
  const before = { ...fuzzer.tally };
  // Of one size: fast-check prefers short arrays, and how many requests there are would be chance.
  await fc.assert(fc.asyncProperty(fc.array(requests, { minLength: AT_ONCE, maxLength: AT_ONCE }), async (some) => {
    const wrong = await fuzzer.run(some);
    if (wrong.length > 0) throw new Error(wrong.slice(0, 3).join("\n"));
  }), { numRuns: Math.ceil(promised / AT_ONCE), endOnFailure: false, interruptAfterTimeLimit: 3_000_000, markInterruptAsFailure: true, ...SEED });

  const { tally } = fuzzer;
  expect(tally.requests - before.requests).toBeGreaterThanOrEqual(promised);
  expect((tally.accepted - before.accepted) / (tally.requests - before.requests)).toBeGreaterThan(0.3);
  await eventually(() => new Promise((resolve) => void world.site.server.getConnections((_error, count) => resolve(count))), 0);
  await eventually(() => descriptors().files, open.files);
  expect(descriptors().sockets).toBeLessThanOrEqual(open.sockets + world.config.PG_POOL_SIZE);
}, 3_600_000);
