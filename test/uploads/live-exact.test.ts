import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { createSlices, SLICE_MS, sliceOf } from "../../src/stream/slices.ts";
import { createLiveHistory } from "../../src/uploads/live/live-history.ts";
import { createMeter } from "../../src/uploads/live/meter.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const SIZE = 1_000;

let world: World;
let now: number;
let round = 0;
const clock = { now: () => new Date(now) };
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world.close());
beforeEach(() => {
  now = sliceOf(Date.now());
  round++;
});

const slices = () => createSlices(world.context.redis, `${world.id}:round-${round}:`);

/** A process that counts, by the clock of the test. */
function openProcess(name: string) {
  const { redis, log } = world.context;
  let files = 0;
  const meter = createMeter({ slices: slices(), redis, stream: `${world.id}:round-${round}:stream`, name, clock, log });
  meter.follow(() => ({ files, bytes: files * SIZE }));
  return { meter, accept: (uploads: number) => void (files += uploads), settle: (times: number[]) => meter.settled(times.map((ms) => ({ sizeBytes: SIZE, eventTime: new Date(now - ms) }))) };
}

async function read() {
  const history = createLiveHistory({ slices: slices(), clock });
  await history.refresh();
  return history;
}

test("a second's figures are those of the newest two slices of which all is told, of all processes, and of nothing else", async () => {
  const [one, other] = [openProcess("one"), openProcess("other")];
  const begins = now;
  for (const [slice, ofOne, ofOther] of [[0, 1_000, 3_000], [1, 30, 50], [2, 40, 5], [3, 700, 900]] as const) {
    now = begins + slice * SLICE_MS;
    await Promise.all([one.meter.tell(), other.meter.tell()]); // what comes later is this slice's alone
    now += 1_000;
    one.accept(ofOne);
    other.accept(ofOther);
    one.settle(Array<number>(ofOther).fill(10));
    await Promise.all([one.meter.tell(), other.meter.tell()]);
  }
  now = begins + 3 * SLICE_MS + 2_000;
  expect((await read()).rates()).toEqual({ accepted: 12.5, acceptedBytes: 12_500, settled: 5.5 }); // (30 + 50 + 40 + 5) / 10, (50 + 5) / 10
  now = begins + 3 * SLICE_MS + 1_999; // the third slice may not be told yet
  expect((await read()).rates()).toEqual({ accepted: 408, acceptedBytes: 408_000, settled: 305 });
  now = begins + SLICE_MS + 2_000; // before the first one nobody counted
  expect((await read()).rates()).toEqual({ accepted: 800, acceptedBytes: 800_000, settled: 600 });
  now = begins + SLICE_MS - 1;
  expect((await read()).rates()).toEqual({ accepted: null, acceptedBytes: null, settled: null });
  await Promise.all([one.meter.close(), other.meter.close()]);
});

test("at a steady pace what is accepted and what is settled a second are that pace, whenever it is read and told", async () => {
  const web = [openProcess("web-1"), openProcess("web-2")];
  const worker = openProcess("worker");
  const [begins, perSecond] = [now, 49];
  let accepted = 0;
  const seen: number[] = [];
  const nextTell = [370, 910, 640];
  for (let ms = 0; ms < 45_000; ms += 10) {
    now = begins + ms;
    for (const due = Math.floor((ms * perSecond) / 1_000); accepted < due; accepted++) {
      web[accepted % 2]!.accept(1);
      worker.settle([20]);
    }
    for (const [i, { meter }] of [...web, worker].entries()) {
      if (ms < nextTell[i]!) continue;
      nextTell[i]! += 1_010; // timers are late: their phase wanders over the slices' ends
      await meter.tell();
    }
    if (ms < 15_000 || ms % 700 !== 0) continue;
    const rates = (await read()).rates();
    seen.push(rates.accepted!, rates.settled!, rates.acceptedBytes! / SIZE);
  }
  expect(seen.length).toBeGreaterThan(100);
  for (const rate of seen) expect(Math.abs(rate - perSecond) / perSecond).toBeLessThan(0.03);
  await Promise.all([...web, worker].map(({ meter }) => meter.close()));
}, 30_000);

test("half, 95 and 99 of 100 uploads took as long as is told, 5 % more or less, over five minutes and no longer", async () => {
  const [one, other] = [openProcess("one"), openProcess("other")];
  const begins = now;
  one.settle(Array<number>(5_000).fill(60_000)); // long ago
  await one.meter.tell();
  now = begins + 305_000;
  one.settle(Array.from({ length: 100 }, (_, i) => 2 * (i + 1)));
  now += SLICE_MS;
  other.settle(Array.from({ length: 100 }, (_, i) => 2 * (i + 1) + 600));
  other.meter.failed();
  await Promise.all([one.meter.tell(), other.meter.tell()]);
  const recent = (await read()).recent();
  for (const [share, exact] of [[0.5, 200], [0.95, 780], [0.99, 796]] as const) expect(Math.abs(recent[share]! - exact) / exact).toBeLessThanOrEqual(0.05);
  expect(recent.failed).toBe(1);
  await Promise.all([one.meter.close(), other.meter.close()]);
});

test("the queue of a slice is the longest that was seen in it, once a second, by anybody", async () => {
  const { redis } = world.context;
  const stream = `${world.id}:round-${round}:stream`;
  const { meter } = openProcess("one");
  const begins = now;
  const lengths = [2, 9, 4, 0, 1, 3];
  for (const [second, length] of lengths.entries()) {
    now = begins + second * 1_000;
    await redis.del(stream);
    for (let i = 0; i < length; i++) await redis.xadd(stream, "*", "upload", String(i));
    await meter.tell();
  }
  expect((await read()).last(2 * SLICE_MS).map(({ queue }) => queue)).toEqual([9, 3]);
  await meter.close();
});

test("known uploads at known times are told by the API as what they are", async () => {
  const begins = sliceOf(Date.now()) + 2 * SLICE_MS; // later than what the world counted by itself
  const at = (ms: number) => world.setClock(new Date(begins + ms));
  const tell = () => world.context.meter.tell();
  const batches = [[100, 6, 300, 4_000], [SLICE_MS + 100, 14, 50, SLICE_MS + 2_100]] as const;
  for (const [acceptedAt, uploads, sizeBytes, settledAt] of batches) {
    at(acceptedAt);
    await tell(); // what the slice before had is told as its own
    for (let i = 0; i < uploads; i++) expect((await world.put(`${acceptedAt}-${i}.bin`, "x".repeat(sizeBytes))).status).toBe(202);
    await tell();
    at(settledAt);
    await world.settleAll();
    await tell();
  }
  at(2 * SLICE_MS + 2_000);
  await eventually(async () => {
    const answer = await fetch(`${world.url}/api/live`, { headers: { Accept: "application/json" } });
    const { accepted_per_second, settled_per_second, bytes_per_second } = await answer.json();
    return { accepted_per_second, settled_per_second, bytes_per_second };
  }, { accepted_per_second: 2, settled_per_second: 2, bytes_per_second: 250 });
  const { latency_ms } = await (await fetch(`${world.url}/api/live`, { headers: { Accept: "application/json" } })).json();
  for (const [told, exact] of [[latency_ms.p50, 2_000], [latency_ms.p95, 3_900], [latency_ms.p99, 3_900]] as const) expect(Math.abs(told - exact) / exact).toBeLessThanOrEqual(0.05);
  world.setClock(undefined);
});
