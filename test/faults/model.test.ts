import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PROTOCOL_STEPS, TROUBLE_STEPS } from "../../src/core/failpoints.ts";
import { carryOut, plans, plansWithoutTroubles } from "./model/run.ts";
import { FAST_PATH, GUARDS, PROTOCOL, TROUBLE_GUARDS, type Protocol } from "./model/world.ts";
import { PLANS } from "./run-counts.ts";

/**
 * The protocol as a model: clients, webs, workers, reconcilers and sweepers, in any order, with kills, stand-stills and
 * outages between any two of their steps. A failure prints its seed and the shortest plan that shows it.
 */
const SEED = process.env.MODEL_SEED === undefined ? {} : { seed: Number(process.env.MODEL_SEED) };
const FEW_RUNS = 1_000;
const MUTANT_RUNS = 20_000; // at most: the first one that fails ends it
const MUTANT_SEEDS = [6, 3, 2];

let tried = 0;
const holds = (protocol: Protocol, from = plans) => fc.property(from, (plan) => {
  tried++;
  const { complaints } = carryOut(plan, protocol);
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
});

test(`whatever happens in whatever order, each upload that was promised is stored once or visibly given up (${PLANS} runs)`, () => {
  tried = 0;
  fc.assert(holds(PROTOCOL, plansWithoutTroubles), { numRuns: PLANS, ...SEED });
  expect(tried).toBe(PLANS);
}, 3_600_000);

test(`and so it is when bytes go bad, and dead letters are healed, retried and discarded; what is discarded stays gone (${PLANS} runs)`, () => {
  tried = 0;
  fc.assert(holds(PROTOCOL), { numRuns: PLANS, ...SEED });
  expect(tried).toBe(PLANS);
}, 3_600_000);

describe("each guard matters: the same property fails without", () => {
  test.each([
    ...Object.keys(GUARDS).map((guard) => [guard, plansWithoutTroubles] as const),
    ...Object.keys(TROUBLE_GUARDS).map((guard) => [guard, plans] as const),
  ])("%s", (guard, from) => {
    const property = holds({ ...PROTOCOL, [guard]: false }, from);
    expect(MUTANT_SEEDS.some((seed) => fc.check(property, { seed, numRuns: MUTANT_RUNS, endOnFailure: true }).failed)).toBe(true);
  });
});

test.each(Object.keys(FAST_PATH) as (keyof typeof FAST_PATH)[])("nothing is lost or doubled without %s: the stream is only for speed", (part) => {
  fc.assert(holds({ ...PROTOCOL, [part]: false }), { numRuns: FEW_RUNS });
});

test("its steps are those of the code", () => {
  const passed = new Set<string>();
  fc.assert(fc.property(plans, (plan) => {
    for (const step of carryOut(plan, PROTOCOL).world.passed) passed.add(step);
  }), { numRuns: FEW_RUNS, seed: 1 });
  expect([...passed].sort()).toEqual([...PROTOCOL_STEPS, ...TROUBLE_STEPS].sort());
});
