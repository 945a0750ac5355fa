import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const headers = { "Idempotency-Key": "order-17" };
const bytes = Buffer.alloc(5_000, "large enough for a blob");

/** Whoever wants to create a manifest hears that there is one, and whoever reads it that there is none; so many times. */
function contradict(times: number): () => number {
  const { store } = world.context.inbox;
  const { put } = store;
  let asked = 0;
  store.put = async (key, ...rest) => {
    if (!key.startsWith("manifests/") || asked >= times) return put(key, ...rest);
    asked++;
    await nextTurn();
    return { stored: false, sizeBytes: 0 };
  };
  return () => asked;
}

test("a store that has a manifest when it is written and none when it is read is given up after five tries, with 503", async () => {
  const asked = contradict(20);
  const answer = await world.put("a.bin", bytes, headers);
  expect([answer.status, (await answer.json()).code]).toEqual([503, "UNAVAILABLE"]);
  expect(asked()).toBe(5);
});

test("an upload whose id is taken out four times in the moment in which it comes again is promised, and stored once", async () => {
  contradict(4);
  const answer = await world.put("a.bin", bytes, headers);
  expect(answer.status).toBe(202);
  await world.settleAll();
  expect(await world.ledger()).toBe(1);
  expect(await inboxKeys(world)).toEqual([]);
});
