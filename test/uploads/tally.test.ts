import { afterEach, beforeEach, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createTallies, createTally } from "../../src/uploads/tally.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

test("a tally is written soon after it changed, and again when writing failed", async () => {
  const { store } = world.context.inbox;
  let failures = 2;
  const failing: typeof store = { ...store, put: async (...put) => {
    if (failures-- > 0) throw new Unavailable("inbox");
    return store.put(...put);
  } };
  const tally = createTally({ store: failing, name: "me", log: world.context.log });
  tally.add(3);
  tally.add(4);
  const tallies = createTallies(store, () => new Date());
  await eventually(async () => (await tallies.read()).get("me"), { files: 2, bytes: 7 });
  expect(failures).toBe(-1);
  await tally.close();
});

test("what was counted last is written when the process ends, and nothing after that", async () => {
  const { store } = world.context.inbox;
  const tally = createTally({ store, name: "me", log: world.context.log });
  tally.add(3);
  await tally.close();
  const tallies = createTallies(store, () => new Date());
  expect((await tallies.read()).get("me")).toEqual({ files: 1, bytes: 3 });
  tally.add(1);
  await tally.close();
  expect((await tallies.read()).get("me")).toEqual({ files: 2, bytes: 4 });
});

test("a process that accepted nothing leaves no tally", async () => {
  const tally = createTally({ store: world.context.inbox.store, name: "me", log: world.context.log });
  await tally.close();
  expect(await world.context.inbox.store.list("tallies/", { limit: 1 })).toEqual([]);
});

test("tallies of processes that ended long ago are read once, others every time", async () => {
  const { store } = world.context.inbox;
  const written = createTally({ store, name: "me", log: world.context.log });
  written.add(3);
  await written.close();
  let read = 0;
  const counting: typeof store = { ...store, readWhole: (key) => (read++, store.readWhole(key)) };
  let later = 0;
  const tallies = createTallies(counting, () => new Date(Date.now() + later));
  for (const expected of [1, 2]) {
    expect((await tallies.read()).size).toBe(1);
    expect(read).toBe(expected);
  }
  later = 3_600_000;
  for (let i = 0; i < 3; i++) expect((await tallies.read()).get("me")).toEqual({ files: 1, bytes: 3 });
  expect(read).toBe(3);
});
