import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { randomFrom } from "../../scripts/random.ts";
import { judge, parseExpectations, type Figures } from "../../scripts/simulate/expectations.ts";
import { chooseFiles, readFiles } from "../../scripts/simulate/file-choice.ts";
import { runArrivals, runFixedUsers, type LoadClock } from "../../scripts/simulate/load-models.ts";
import { parseOptions } from "../../scripts/simulate/options.ts";
import { formatShare, readRate, readSpan } from "../../scripts/simulate/quantities.ts";
import { createDistribution } from "../../scripts/simulate/statistics.ts";
import { createTally } from "../../scripts/simulate/tally.ts";
import { createTimeline } from "../../scripts/simulate/timeline.ts";

const settings = { HOST: "127.0.0.1", PORT: 8080, PRODUCER_USERS: 5, PRODUCER_REPEATS: 2, PRODUCER_HEADLESS: true };

describe("an expectation", () => {
  const figures: Figures = {
    attempted: 200, received: 199, errors: 1, accounted: 199, receipts: 199, late: 3, arrivals: 100, uploadsPerSecond: 6, bytesPerSecond: 3 * 1024 ** 2,
    percentile: (step, percent) => (step === "stored" ? undefined : { page: 110, upload: 1500 }[step] + percent),
  };
  const holds = (text: string) => judge(parseExpectations(text), figures).map((verdict) => verdict.holds);

  test.each([
    ["p95<2s", true], ["p95 < 1595ms", false], ["p95<=1595ms", true], ["upload.p50>1s", true], ["page.p99<0.3s", true], ["page.p99<0.2s", false],
    ["errors=0", false], ["errors=1", true], ["errors<1%", true], ["errors<0.5%", false], ["errors<=0.5%", true],
    ["accounted=100%", true], ["accounted>=99.9 %", true], ["late<3", false], ["late<=3%", true], ["throughput>=5/s", true], ["throughput>400/m", false], ["throughput>2MiB/s", true],
  ])("%s is held against the figures", (text, expected) => {
    expect(holds(text)).toEqual([expected]);
  });

  test("stands beside others, and each is judged", () => {
    expect(judge(parseExpectations("p95<2s, errors=0 ,accounted=100%"), figures)).toEqual([
      { text: "p95<2s", holds: true, actual: "1.59 s" }, { text: "errors=0", holds: false, actual: "1" }, { text: "accounted=100%", holds: true, actual: "100 %" },
    ]);
  });

  test("about what could not be measured does not hold, however it is put", () => {
    expect(holds("stored.p95<1h,stored.p95>0ms")).toEqual([false, false]);
    expect(judge(parseExpectations("accounted=100%"), { ...figures, receipts: 0, accounted: 0 })).toMatchObject([{ holds: false, actual: "nothing to measure" }]);
  });

  test("is not rounded up to what was hoped for", () => {
    expect(holds("accounted=100%")).toEqual([true]);
    expect(judge(parseExpectations("accounted=100%"), { ...figures, receipts: 1_000_000, accounted: 999_999 })).toMatchObject([{ holds: false, actual: "99.99 %" }]);
    expect([formatShare(1), formatShare(0.99999), formatShare(0.5), formatShare(undefined)]).toEqual(["100 %", "99.99 %", "50 %", "–"]);
  });

  test.each([["p95", /is not an expectation/], ["p95~2s", /is not an expectation/], ["p90<2s", /no metric/], ["ledger.p95<2s", /no metric/], ["p95<2", /no value for p95/],
    ["p95<2%", /no value/], ["errors<0.5", /no value/], ["accounted=1", /no value/], ["throughput>5", /no value/], ["", /empty/]])("%j is refused, with the grammar", (text, why) => {
    expect(() => parseExpectations(text)).toThrow(why);
    expect(() => parseExpectations(text)).toThrow(/page\.p95 stored\.p99/);
  });
});

describe("percentiles", () => {
  const values = Array.from({ length: 5000 }, ((random) => () => random() ** 3 * 10_000)(randomFrom(7)));
  const sorted = values.toSorted((one, other) => one - other);
  const plain = (percent: number) => sorted[Math.max(Math.ceil((percent / 100) * sorted.length), 1) - 1]!;

  test("are those of a plain sort, also when more comes after the first look", () => {
    const distribution = createDistribution();
    for (const [index, value] of values.entries()) {
      distribution.add(value);
      if (index === 100) distribution.percentile(50);
    }
    for (const percent of [0, 1, 50, 95, 99, 99.9, 100]) expect(distribution.percentile(percent)).toBe(plain(percent));
    expect(distribution.largest()).toBe(sorted.at(-1));
    expect(distribution.count()).toBe(5000);
  });

  test("are within half a percent where there are too many to keep, and little is kept", () => {
    const distribution = createDistribution(1000);
    for (const value of values) distribution.add(value);
    for (const percent of [50, 95, 99]) expect(Math.abs(distribution.percentile(percent)! / plain(percent) - 1)).toBeLessThan(0.005);
    for (let turn = 0; turn < 20; turn++) for (const value of values) distribution.add(value);
    expect(distribution.values().length).toBeLessThan(5000);
    expect(distribution.count()).toBe(105_000);
  });

  test("of nothing are not known", () => {
    expect(createDistribution().percentile(95)).toBeUndefined();
  });
});

test("the timeline of a long run keeps every upload in a bounded number of stretches", () => {
  const timeline = createTimeline(10);
  for (let second = 0; second < 1000; second++) {
    const stretch = timeline.at(second * 1000);
    stretch.received++;
    stretch.uploadMs.add(second);
  }
  expect(timeline.stretches().length).toBeLessThanOrEqual(10);
  expect(timeline.stretches().reduce((sum, { received }) => sum + received, 0)).toBe(1000);
  expect(timeline.stretches().reduce((sum, { uploadMs }) => sum + uploadMs.count(), 0)).toBe(1000);
});

/** Time passes only when somebody waits for it; then it jumps to the first moment anybody waits for. */
function fakeClock() {
  let now = 0;
  const waiting: { atMs: number; wake: () => void }[] = [];
  const clock: LoadClock = {
    now: () => now,
    until: (atMs, signal) => (atMs <= now || signal.aborted ? Promise.resolve() : new Promise((resolve) => {
      const entry = { atMs, wake: resolve };
      waiting.push(entry);
      signal.addEventListener("abort", () => {
        entry.atMs = now;
        resolve();
      });
    })),
  };
  /** Until `ended`. */
  async function run(ended: Promise<unknown>): Promise<void> {
    let over = false;
    void ended.finally(() => { over = true; });
    while (!over) {
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
      const first = waiting.sort((one, other) => one.atMs - other.atMs).shift();
      if (!first) continue;
      now = Math.max(now, first.atMs);
      first.wake();
    }
  }
  return { clock, run };
}

/** As many may listen to it as wait. */
function neverAborted(): AbortSignal {
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  return signal;
}

describe("the open model", () => {
  async function arrive({ mostAtOnce, visitMs, patienceMs = 60_000 }: { mostAtOnce: number; visitMs: number; patienceMs?: number }) {
    const { clock, run } = fakeClock();
    const signal = neverAborted();
    const lateness: number[] = [], dues: number[] = [];
    let never = 0, here = 0, most = 0;
    await run(runArrivals({
      perSecond: 10, durationMs: 10_000, mostAtOnce, patienceMs, clock, signal, random: () => 0.5,
      async visit(_, dueMs) {
        dues.push(dueMs);
        most = Math.max(most, ++here);
        await clock.until(clock.now() + visitMs, signal);
        here--;
      },
      started: (latenessMs) => void lateness.push(latenessMs),
      neverStarted: (count) => { never += count; },
    }));
    return { lateness, dues, never, most };
  }

  test("lets all come when they are due while there are places", async () => {
    const { lateness, dues, most } = await arrive({ mostAtOnce: 5, visitMs: 300 });
    expect(lateness).toEqual(Array(100).fill(0));
    expect(dues[0]).toBe(50);
    expect(dues[99]).toBe(9950);
    expect(most).toBe(3);
  });

  test("counts those who had to wait, and measures from when they were due", async () => {
    // Two places for visits of a second each serve 2 a second; 10 a second come.
    const { lateness, dues, most, never } = await arrive({ mostAtOnce: 2, visitMs: 1000 });
    expect(most).toBe(2);
    expect(never).toBe(0);
    expect(lateness).toHaveLength(100);
    expect(lateness.filter((ms) => ms > 0)).toHaveLength(98);
    expect(dues[99]).toBe(9950);
    expect(lateness[99]).toBe(39_200); // it began at 49,150
  });

  test("counts those who never got a place", async () => {
    const { lateness, never } = await arrive({ mostAtOnce: 2, visitMs: 1000, patienceMs: 5_000 });
    expect(lateness.length).toBe(30);
    expect(never).toBe(70);
  });
});

describe("the closed model", () => {
  test("lets each person make their visits one after the other, with time to think between", async () => {
    const { clock, run } = fakeClock();
    const visits: [number, number][] = [];
    await run(runFixedUsers({
      users: 2, repeats: 3, durationMs: undefined, think: { leastMs: 1000, mostMs: 2000 }, clock, signal: neverAborted(),
      randomOf: (user) => () => user / 2,
      live: (user, round) => round(async (dueMs) => void visits.push([user, dueMs])),
    }));
    expect(visits.filter(([user]) => user === 0)).toEqual([[0, 0], [0, 1000], [0, 2000]]);
    expect(visits.filter(([user]) => user === 1)).toEqual([[1, 1000], [1, 2500], [1, 4000]]);
  });

  test("ends when its time is over", async () => {
    const { clock, run } = fakeClock();
    let visits = 0;
    await run(runFixedUsers({
      users: 1, repeats: undefined, durationMs: 10_500, think: { leastMs: 1000, mostMs: 1000 }, clock, signal: neverAborted(),
      randomOf: () => () => 0, live: (_, round) => round(async () => void visits++),
    }));
    expect(visits).toBe(11);
  });
});

describe("the tally", () => {
  test("has each attempt end once, as received or as an error", () => {
    const tally = createTally();
    tally.attempt(3);
    tally.received(10, 5);
    tally.failed({ kind: "refused", detail: "415" });
    expect(tally.underWay()).toBe(1);
    tally.failed({ kind: "dead letter", detail: "of the one that was received" });
    expect(tally.underWay()).toBe(1);
    expect(tally.counts.errors).toBe(2);
  });

  test("keeps only so many different words", () => {
    const tally = createTally();
    for (let turn = 0; turn < 1000; turn++) tally.failed({ kind: "network", detail: `reason ${turn}` });
    expect(tally.errors.get("network")).toMatchObject({ count: 1000 });
    expect(tally.errors.get("network")!.details.size).toBeLessThan(30);
  });
});

describe("options", () => {
  test("come from the settings, and flags win", () => {
    expect(parseOptions([], settings)).toMatchObject({ users: 5, repeats: 2, headless: true, target: "http://localhost:8080", driver: "browser", think: { leastMs: 1000, mostMs: 4000 } });
    expect(parseOptions([], { ...settings, PORT: 9000, HOST: "10.0.0.7", PRODUCER_HEADLESS: false })).toMatchObject({ headless: false, target: "http://10.0.0.7:9000" });
    expect(parseOptions(["--users", "20", "--repeats", "3", "--headful", "--target", "https://files.example.org/in/"], settings))
      .toMatchObject({ users: 20, repeats: 3, headless: false, target: "https://files.example.org/in" });
    expect(parseOptions(["--arrivals", "5/s", "--duration", "30s", "--driver", "http"], settings)).toMatchObject({ arrivalsPerSecond: 5, durationMs: 30_000, users: 1000 });
    expect(parseOptions(["--duration", "1m"], settings)).toMatchObject({ repeats: undefined, durationMs: 60_000 });
  });

  test.each([
    [["--users", "0"], /--users: 0/], [["--driver", "curl"], /neither browser nor http/], [["--arrivals", "5"], /not a rate/], [["--arrivals", "5/s"], /needs --duration/],
    [["--arrivals", "5/s", "--duration", "9s", "--repeats", "2"], /--repeats goes with --users/], [["--think", "4s..1s"], /--think/], [["--target", "localhost:8080"], /not an address/],
    [["--duration", "30"], /not a duration/], [["--driver", "http", "--headful"], /--driver browser/], [["--sockets", "5"], /--driver http/], [["--seed", "x"], /--seed/], [["--nonsense"], /nonsense/],
  ])("%j are refused with the reason", (args, why) => {
    expect(() => parseOptions(args, settings)).toThrow(why);
  });

  test("have spans and rates as people write them", () => {
    expect([readSpan("1s..4s"), readSpan("250ms"), readSpan("0"), readSpan("0..2s"), readSpan("fast")]).toEqual([
      { leastMs: 1000, mostMs: 4000 }, { leastMs: 250, mostMs: 250 }, { leastMs: 0, mostMs: 0 }, { leastMs: 0, mostMs: 2000 }, undefined,
    ]);
    expect([readRate("5/s"), readRate("300/m"), readRate("5")]).toEqual([5, 5, undefined]);
  });
});

test("files are chosen of those that can be handed in, none twice in a visit, and the same again with the same seed", async () => {
  const folder = await mkdtemp(join(tmpdir(), "crowd-files-"));
  try {
    for (const name of ["a.txt", "b.txt", "c.txt", ".hidden"]) await writeFile(join(folder, name), name);
    await writeFile(join(folder, "empty.txt"), "");
    const files = await readFiles(folder);
    expect(files.map(({ name }) => name)).toEqual(["a.txt", "b.txt", "c.txt"]);
    expect(files[0]).toMatchObject({ sizeBytes: 5, sha256: createHash("sha256").update("a.txt").digest("hex") });
    const choose = (seed: number) => chooseFiles(files, 5, randomFrom(seed)).map(({ name }) => name);
    expect(choose(3).toSorted()).toEqual(["a.txt", "b.txt", "c.txt"]);
    expect(choose(3)).toEqual(choose(3));
    await expect(readFiles(join(folder, "nowhere"))).rejects.toThrow(/cannot be read/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
