import { afterEach, beforeEach, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createTallies, createTally } from "../../src/uploads/audit/tally.ts";
import type { Committed } from "../../src/uploads/inbox.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(() => world.close());

const NONE = { files: 0, bytes: 0 };
const created = (sizeBytes: number) => ({ outcome: "created", manifest: { size_bytes: sizeBytes } }) as Committed;
const accept = (tally: ReturnType<typeof createTally>, sizeBytes: number) => tally.counted(sizeBytes, async () => created(sizeBytes));

test("a tally is written soon after it changed, and again when writing failed", async () => {
  const { store } = world.context.inbox;
  let failures = 2;
  const failing: typeof store = { ...store, put: async (...put) => {
    if (failures-- > 0) throw new Unavailable("inbox");
    return store.put(...put);
  } };
  const tally = createTally({ store: failing, name: "me", log: world.context.log });
  await accept(tally, 3);
  await accept(tally, 4);
  const tallies = createTallies(store, () => new Date());
  await eventually(async () => (await tallies.read()).tallies.get("me"), { files: 2, bytes: 7, unsure: NONE, closed: false });
  expect(failures).toBe(-1);
  await tally.close();
});

test("what was counted last is written when the process ends, and nothing is accepted after that", async () => {
  const { store } = world.context.inbox;
  const tally = createTally({ store, name: "me", log: world.context.log });
  await accept(tally, 3);
  await tally.close();
  const last = { files: 1, bytes: 3, unsure: NONE, closed: true };
  expect((await createTallies(store, () => new Date()).read()).tallies.get("me")).toEqual(last);
  let committed = 0;
  await expect(tally.counted(1, async () => (committed++, created(1)))).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  expect([committed, tally.now()]).toEqual([0, last]);
});

test("a commit is unsure while it is under way, and for good where nobody knows what came of it", async () => {
  const { store } = world.context.inbox;
  const tally = createTally({ store, name: "me", log: world.context.log });
  let finish!: (committed: Committed) => void;
  const underWay = tally.counted(5, () => new Promise((resolve) => (finish = resolve)));
  expect(tally.now()).toMatchObject({ files: 0, unsure: { files: 1, bytes: 5 } });
  finish(created(5));
  await underWay;
  expect(tally.now()).toMatchObject({ files: 1, bytes: 5, unsure: NONE });

  await tally.counted(6, async () => ({ ...created(6), outcome: "found" }));
  expect(tally.now()).toMatchObject({ files: 1, bytes: 5, unsure: NONE });
  await tally.counted(7, async () => ({ ...created(7), outcome: "replaced" }));
  expect(tally.now()).toMatchObject({ files: 1, bytes: 5, unsure: NONE });
  await expect(tally.counted(8, () => Promise.reject(new Unavailable("inbox")))).rejects.toThrow(Unavailable);
  expect(tally.now()).toMatchObject({ files: 1, bytes: 5, unsure: { files: 1, bytes: 8 } });
  await tally.close();
  expect((await createTallies(store, () => new Date()).read()).tallies.get("me")).toEqual({ files: 1, bytes: 5, unsure: { files: 1, bytes: 8 }, closed: true });
});

test("the tally of a version that said less is one that may be exceeded", async () => {
  const { store } = world.context.inbox;
  await store.put("tallies/old", Buffer.from('{"files":1,"bytes":3}'));
  expect((await createTallies(store, () => new Date()).read()).tallies.get("old")).toEqual({ files: 1, bytes: 3, unsure: NONE, closed: false });
});

test("a process that accepted nothing leaves no tally", async () => {
  const tally = createTally({ store: world.context.inbox.store, name: "me", log: world.context.log });
  await tally.close();
  expect(await world.context.inbox.store.list("tallies/", { limit: 1 })).toEqual([]);
});

test("tallies of processes that ended long ago are read once, others every time", async () => {
  const { store } = world.context.inbox;
  const written = createTally({ store, name: "me", log: world.context.log });
  await accept(written, 3);
  await written.close();
  let read = 0;
  const counting: typeof store = { ...store, readWhole: (key) => (read++, store.readWhole(key)) };
  let later = 0;
  const tallies = createTallies(counting, () => new Date(Date.now() + later));
  for (const expected of [1, 2]) {
    expect((await tallies.read()).tallies.size).toBe(1);
    expect(read).toBe(expected);
  }
  later = 3_600_000;
  for (let i = 0; i < 3; i++) expect((await tallies.read()).tallies.get("me")).toMatchObject({ files: 1, bytes: 3 });
  expect(read).toBe(3);
});
