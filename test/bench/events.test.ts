import { expect, test } from "vitest";
import type { BatchRun } from "../../bench/event-batches.ts";
import type { DoorCell, DoorRungName } from "../../bench/event-door.ts";
import type { EventsResult } from "../../bench/events.ts";
import { judgeGoals } from "../../bench/goals.ts";
import { drawZipf } from "../../bench/load/events.ts";
import { prepareRequest } from "../../bench/load/request.ts";
import type { Machine } from "../../bench/machine.ts";
import { parseOptions } from "../../bench/options.ts";
import { writeReport } from "../../bench/report.ts";
import type { Sitting } from "../../bench/sitting.ts";

const machine = { syncMs: 0, loadBefore: 0 } as Machine; // no goal looks at it
const sitting: Sitting = {
  perSecond: 1000, p50Ms: 1, p99Ms: 2, cpuMs: 0.1, redisCpuMs: undefined, peakBytes: 90e6, peakAnonymousBytes: 50e6, generatorCores: 0.2, failures: 0, reasons: [],
};

function run(visiblePerSecond: number, copyPerSecond: number, extra: Partial<BatchRun> = {}): BatchRun {
  return {
    batch: 100, withIds: false, events: 1, acceptedPerSecond: 1, p50Ms: 1, p99Ms: 1, visiblePerSecond, catchUpMs: 1, webCpuMs: 1, workerCpuMs: 1,
    redisCpuMs: 1, postgresCpuMs: 1, generatorCores: 0.1, webAnonymousBytes: 1, workerAnonymousBytes: 300e6, copyPerSecond, failure: undefined, ...extra,
  };
}

function cell(rung: DoorRungName, perSecond: readonly number[]): DoorCell {
  return { rung, label: rung, clients: 16, sittings: perSecond.map((rate) => ({ ...sitting, perSecond: rate })) };
}

function verdictsOf(events: EventsResult, subject: string) {
  return judgeGoals({ machine, problems: [], events }).filter((goal) => goal.subject.includes(subject)).map((goal) => goal.verdict);
}

function bodyOf({ first }: { first: Buffer }): string {
  const text = first.toString();
  const [head = "", body = ""] = text.split("\r\n\r\n");
  expect(head).toContain(`Content-Length: ${Buffer.byteLength(body)}`);
  return body;
}

const shape = { method: "POST", path: "/events", headers: {}, body: "events", sizeBytes: 0 } as const;

test("a draw by Zipf's law is between the first and the last, and the first comes most often", () => {
  expect([drawZipf(2_000, 0), drawZipf(2_000, 1 - Number.EPSILON / 2)]).toEqual([1, 2_000]);
  const counts = [0, 0, 0, 0];
  for (let draw = 0; draw < 10_000; draw++) counts[drawZipf(3, draw / 10_000)]!++;
  expect(counts).toEqual([0, 5_000, 2_925, 2_075]); // log 2, log 3/2 and log 4/3 to the base 4
});

test("events are realistic ones of now, in requests that change from one to the next", () => {
  const request = prepareRequest({ ...shape, events: { batch: 100, withIds: false } }, "h");
  const bodies = [1, 2, 3].map(() => {
    request.stamp();
    return bodyOf(request);
  });
  expect(new Set(bodies).size).toBe(3);
  const events = JSON.parse(bodies[0]!) as Record<string, string>[];
  expect(events).toHaveLength(100);
  for (const event of events) expect(Object.keys(event)).toEqual(["site_id", "event_type", "path", "user_id", "timestamp"]);
  expect(Math.abs(Date.parse(events[0]!.timestamp!) - Date.now())).toBeLessThan(60_000);
});

test("no id of an event comes twice, not even when a request is sent again, nor from another client", () => {
  const seen = new Set<string>();
  for (const client of [0, 1]) {
    const request = prepareRequest({ ...shape, events: { batch: 1_000, withIds: true } }, "h", client);
    for (let sent = 0; sent < 10; sent++) { // there are four of them
      request.stamp();
      for (const { event_id } of JSON.parse(bodyOf(request)) as { event_id: string }[]) seen.add(event_id);
    }
  }
  expect(seen.size).toBe(20_000);
});

test("a single event stands in no list", () => {
  const request = prepareRequest({ ...shape, events: { withIds: false } }, "h");
  request.stamp();
  expect(JSON.parse(bodyOf(request))).toMatchObject({ site_id: expect.stringMatching(/^site-[1-5]$/) });
});

test("the paths of a request are asked in turn", () => {
  const request = prepareRequest({ method: "GET", path: "/", paths: ["/a", "/b"], headers: {}, body: "none", sizeBytes: 0 }, "h");
  const asked = [1, 2, 3].map(() => {
    request.stamp();
    return request.first.toString().split(" ")[1];
  });
  expect(asked).toEqual(["/a", "/b", "/a"]);
});

test("the goal of the batches is met by the rate or by the share of COPY, and ids do not count", () => {
  const batches = "POST /events";
  expect(verdictsOf({ batches: [run(60_000, 200_000)] }, batches)).toEqual(["met"]);
  expect(verdictsOf({ batches: [run(30_000, 50_000)] }, batches)).toEqual(["met"]);
  expect(verdictsOf({ batches: [run(30_000, 51_000), run(90_000, 51_000, { withIds: true })] }, batches)).toEqual(["missed"]);
  expect(verdictsOf({ batches: [run(30_000, 51_000), run(60_000, 200_000, { batch: 1_000 })] }, batches)).toEqual(["missed", "met"]);
});

test("figures that are not those of the events have missed the goal, however fast they were", () => {
  expect(verdictsOf({ batches: [run(90_000, 100_000), run(90_000, 100_000, { failure: "7 events are missing" })] }, "POST /events")).toEqual(["missed"]);
});

test("the door is held against the bare server within each round", () => {
  const cells = [cell("ours", [600, 1200]), cell("parse-append", [1000, 2000]), cell("parse", [9000, 9000])];
  expect(verdictsOf({ door: { cells, halfLoad: [] } }, "POST /event, 16")).toEqual(["met"]);
  expect(verdictsOf({ door: { cells: cells.toReversed().slice(1), halfLoad: [] } }, "POST /event, 16")).toEqual(["met"]);
  expect(verdictsOf({ door: { cells: [cell("ours", [599]), cell("parse-append", [1000])], halfLoad: [] } }, "POST /event, 16")).toEqual(["missed"]);
  expect(verdictsOf({ door: { cells: [], halfLoad: [{ askedPerSecond: 500, sitting: { ...sitting, p99Ms: 21 }, bare: sitting }] } }, "half")).toEqual(["missed"]);
});

test("/stats is judged with one client, and memory with the events' too", () => {
  const stats = (p99Ms: number, clients: number) => ({
    rows: 10_000_000, countingMs: 1, rounds: [[{ question: "day" as const, clients, perSecond: 1, p50Ms: 1, p99Ms, failures: 0, reasons: [] }]],
  });
  expect(verdictsOf({ stats: stats(10, 1) }, "/stats")).toEqual(["met"]);
  expect(verdictsOf({ stats: stats(11, 1) }, "/stats")).toEqual(["missed"]);
  expect(verdictsOf({ stats: stats(11, 16) }, "/stats")).toEqual(["not measured"]);
  expect(verdictsOf({ batches: [run(1, 1)] }, "worker, anonymous")).toEqual(["missed"]);
});

test("the report has the events' tables, and says what failed", () => {
  const report = writeReport({
    machine, problems: [], events: { door: { cells: [cell("ours", [600]), cell("parse-append", [1000])], halfLoad: [] }, batches: [run(1, 1, { failure: "7 are missing" })] },
  });
  expect(report).toMatch(/\| 16 clients +\| 0\.60 \(0\.60 to 0\.60\)/);
  expect(report).toMatch(/batches of 100 +\| FAILED: 7 are missing/);
});

test("parts of the events' bench are chosen by name", () => {
  expect(parseOptions(["--event-parts", "door,stats", "--event-rows", "5000"])).toMatchObject({ eventParts: ["door", "stats"], eventRows: 5000 });
  expect(parseOptions([])).toMatchObject({ eventParts: ["door", "batches", "stats"], eventRows: 10_000_000 });
  expect(() => parseOptions(["--event-parts", "speed"])).toThrow("speed");
});
