import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createDamage } from "../../src/files/damage.ts";
import { Unavailable } from "../../src/core/errors.ts";
import { createPace, createScrub } from "../../src/files/scrub.ts";
import { createVerifier } from "../../src/objects/verify.ts";
import { openWorkload } from "../../src/main/workload.ts";
import { objectKey } from "../../src/uploads/store-object.ts";
import { startProgram } from "../support/program.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";
import { scrubOf } from "./rot.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const names = (count: number) => Array.from({ length: count }, (_, i) => `${i}.txt`);
const state = async () => (await world.sql("select objects, size_bytes, damaged, ended_at is not null as ended from scrub"))[0];
const damagedKeys = () => world.sql("select storage_key from damaged_objects");

async function store(count: number, sizeBytes = 10): Promise<void> {
  for (const name of names(count)) await world.put(name, name.padEnd(sizeBytes, " "));
  await world.settleAll();
}

describe("the scrub", () => {
  test("stops in the middle of an object as soon as the process is to end, and goes on with that object in another process", async () => {
    await store(3, 300_000);
    const stopping = new AbortController();
    const read: string[] = [];
    const storage = { ...world.context.storage, read: (key: string) => (read.push(key), world.context.storage.read(key)) };
    const { db, damage, log } = world.context;
    const settings = { db, damage, clock: { now: () => new Date() }, log };
    // The first object takes two seconds; the second one is never finished.
    const slow = createScrub({ ...settings, verifier: createVerifier({ store: storage }), bytesPerSecond: 150_000, stopping: stopping.signal });
    const running = slow.runOnce();
    await eventually(() => read.length, 2);
    const stoppedAt = performance.now();
    stopping.abort();
    await running;
    expect(performance.now() - stoppedAt).toBeLessThan(1_500);
    expect(await state()).toEqual({ objects: 1, size_bytes: 300_000, damaged: 0, ended: false });

    await createScrub({ ...settings, verifier: createVerifier({ store: storage }), bytesPerSecond: 1e9, stopping: new AbortController().signal }).runOnce();
    expect(await state()).toEqual({ objects: 3, size_bytes: 900_000, damaged: 0, ended: true });
    expect(read).toHaveLength(4);
  });

  test("records nothing while storage cannot be reached, and finds everything well when it is back", async () => {
    await store(3);
    const away = async () => { throw new Unavailable("storage"); };
    const verifier = createVerifier({ store: { ...world.context.storage, head: away, read: away, readWhole: away, ping: away } });
    const { db, log } = world.context;
    const damage = createDamage({ db, verifier, name: "test", log });
    const scrub = createScrub({ db, verifier, damage, bytesPerSecond: 1e9, stopping: new AbortController().signal, clock: { now: () => new Date() }, log });
    await expect(scrub.runOnce()).rejects.toBeInstanceOf(Unavailable);
    expect(await damagedKeys()).toEqual([]);
    expect(await scrubOf(world).runOnce()).toMatchObject({ objects: 3, damaged: 0 });
    expect(await world.ledger()).toBe(3);
  });

  test("takes a store that answers to nothing at all for an outage, and not for the damage of each object", async () => {
    await store(2);
    const gone = { ...world.context.storage, head: async () => undefined, ping: async () => { throw new Unavailable("storage"); } };
    await expect(createVerifier({ store: gone }).verify({ key: "any", sizeBytes: 1, sha256: "" })).rejects.toBeInstanceOf(Unavailable);
  });

  test("begins a new round an hour after the last one began, and no sooner", async () => {
    await store(2);
    let now = new Date();
    const scrub = scrubOf(world, { clock: { now: () => now } });
    const first = await scrub.runOnce();
    await world.put("more.txt", "more");
    await world.settleAll();
    now = new Date(now.getTime() + 3_599_000);
    expect(await scrub.runOnce()).toEqual(first);
    now = new Date(now.getTime() + 1_000);
    expect(await scrub.runOnce()).toMatchObject({ objects: 3, beganAt: now });
  });

  test("sees that an object was restored from a back-up, ten minutes after it last looked, and tells it once", async () => {
    await store(1);
    const [{ key }] = await world.sql<{ key: string }>("select storage_key as key from files") as [{ key: string }];
    const good = Buffer.from((await world.context.storage.readWhole(key))!);
    await world.context.storage.put(key, Buffer.from("rotten bytes"));
    let now = new Date();
    const scrub = scrubOf(world, { clock: { now: () => now } });
    expect(await scrub.runOnce()).toMatchObject({ damaged: 1 });
    await world.context.storage.put(key, good);
    await scrub.runOnce();
    expect(await damagedKeys()).toHaveLength(1);
    now = new Date(now.getTime() + 601_000);
    await scrub.runOnce();
    await scrub.runOnce();
    expect(await damagedKeys()).toEqual([]);
    expect(await world.sql("select event, reason from file_events where event <> 'stored' order by event")).toEqual([
      { event: "damaged", reason: "size: it has 12 bytes instead of 10" }, { event: "repaired", reason: "it is good again" }]);
  });

  test("is one process's business at a time, and a job of every worker unless its rate is 0", async () => {
    await store(2);
    const results = await Promise.all([scrubOf(world).runOnce(), scrubOf(world).runOnce(), scrubOf(world).runOnce()]);
    expect(results.filter((result) => result?.objects === 2)).toHaveLength(1 + results.filter((result) => result !== undefined).length - 1);
    expect(results).toContain(undefined);
    await world.sql("update scrub set began_at = null");
    const idle = await openWorkload({ ...world.context, config: { ...world.config, SCRUB_BYTES_PER_SECOND: 0 } });
    const busy = await openWorkload(world.context);
    await eventually(state, { objects: 2, size_bytes: 20, damaged: 0, ended: true });
    await Promise.all([idle.stop(), busy.stop()]);
  });

  test("reads no more than its rate, whatever the sizes", async () => {
    const pace = createPace(1_000_000, new AbortController().signal);
    const startedAt = performance.now();
    for (const sizeBytes of [1, 100_000, 50, 200_000, 1_000]) await pace(sizeBytes);
    const took = performance.now() - startedAt;
    expect(took).toBeGreaterThan(295);
    expect(took).toBeLessThan(1_000);
  });
});

test("damage is told of each file that has the object, however many files lie between them", async () => {
  const same = "the same bytes";
  for (let i = 0; i < 7; i++) await world.put(`${i}.txt`, i % 3 === 0 ? same : `other ${i}`);
  await world.settleAll();
  const [{ key, sha256 }] = await world.sql<{ key: string; sha256: string }>(
    "select storage_key as key, encode(sha256, 'hex') as sha256 from files where name = '0.txt'") as [{ key: string; sha256: string }];
  await world.context.storage.remove([key]);
  const { db, log } = world.context;
  const damage = createDamage({ db, verifier: createVerifier({ store: world.context.storage }), name: "test", log, filesAtOnce: 2 });
  await Promise.all(Array.from({ length: 5 }, () => damage.check({ key, sha256, sizeBytes: same.length }, "scrub")));
  expect(await world.sql("select file_name, worker, settle_ms from file_events where event = 'damaged' order by file_name")).toEqual(
    ["0.txt", "3.txt", "6.txt"].map((file_name) => ({ file_name, worker: "test", settle_ms: 0 })));
  expect(await world.sql("select records from ledger_totals")).toEqual([{ records: 10 }]);
});

test("two processes that mend the same object at once replace it once, and tell it once", async () => {
  const bytes = Buffer.from("the right bytes");
  const { sha256, file_id } = await (await world.put("a.txt", bytes)).json();
  await world.settleAll();
  const expected = { key: objectKey(sha256), sha256, sizeBytes: bytes.length };
  const { db, log, storage } = world.context;
  await storage.put(expected.key, Buffer.from("the wrong bytes"));
  let otherIsThere = () => {};
  const there = new Promise<void>((resolve) => (otherIsThere = resolve));
  let replaced = 0;
  const replace = async () => {
    replaced++;
    await there;
    await storage.put(expected.key, bytes);
  };
  const verifier = createVerifier({ store: storage });
  const watched: typeof db = { ...db, exclusively: (...args) => db.exclusively(...args).finally(otherIsThere) };
  const first = createDamage({ db, verifier, name: "first", log }).repair(expected, replace);
  await eventually(() => replaced, 1);
  await Promise.all([first, createDamage({ db: watched, verifier, name: "second", log }).repair(expected, replace)]);
  expect(replaced).toBe(1);
  expect(await world.sql("select event, worker from file_events where file_id = $1 and event <> 'stored' order by event", [file_id])).toEqual([
    { event: "damaged", worker: "first" }, { event: "repaired", worker: "first" }]);
});

test("npm run verify says what it could not ask, and that is no verdict", async () => {
  const program = startProgram("verify", { ...(world.env as Record<string, string>), PG_URI: "postgres://127.0.0.1:1/none" });
  expect(await program.exit).toBe(2);
  expect(program.output()).toMatch(/postgres is unavailable/);
  const unset = startProgram("verify", { STORAGE_MODE: "s3" });
  expect(await unset.exit).toBe(2);
  expect(unset.output()).toMatch(/S3_BUCKET/);
});
