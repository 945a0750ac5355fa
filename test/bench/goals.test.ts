import { expect, test } from "vitest";
import { judgeGoals } from "../../bench/goals.ts";
import type { Machine } from "../../bench/machine.ts";
import { parseOptions } from "../../bench/options.ts";
import { table } from "../../bench/table.ts";
import type { RungName } from "../../bench/rungs.ts";
import type { Sitting } from "../../bench/sitting.ts";
import type { UploadCell } from "../../bench/uploads.ts";
import { atLeast, atMost } from "../../bench/verdict.ts";

const machine = {} as Machine; // no goal looks at it

function cell(rung: RungName, perSecond: readonly number[], sizeBytes = 1024, failures = 0): UploadCell {
  const sittings = perSecond.map((rate): Sitting => ({
    perSecond: rate, p50Ms: 1, p99Ms: 2, cpuMs: 0.1, redisCpuMs: undefined, peakBytes: 90e6, peakAnonymousBytes: 50e6,
    generatorCores: 0.2, failures, reasons: failures > 0 ? ["status 500"] : [],
  }));
  return { rung, label: rung, sizeBytes, clients: 16, sittings };
}

function verdictOf(uploads: UploadCell[], wanted: string) {
  return judgeGoals({ machine, problems: [], uploads }).filter((goal) => goal.wanted.includes(wanted)).map((goal) => goal.verdict);
}

test("a goal is met at its very limit and missed below it", () => {
  const ratio = (median: number) => ({ median, lowest: median, highest: median });
  expect(atLeast("", "", 3, ratio(3)).verdict).toBe("met");
  expect(atLeast("", "", 3, ratio(2.99)).verdict).toBe("missed");
  expect(atMost("", 10, "ms", 10).verdict).toBe("met");
  expect(atMost("", 10, "ms", 10.01).verdict).toBe("missed");
});

test("what was not measured is neither met nor missed", () => {
  expect(atLeast("", "", 3, undefined).verdict).toBe("not measured");
  expect(atMost("", 10, "ms", undefined).verdict).toBe("not measured");
  expect(judgeGoals({ machine, problems: [] }).every((goal) => goal.verdict === "not measured")).toBe(true);
});

test("the median of the rounds decides", () => {
  expect(verdictOf([cell("ours-put", [5000, 2000, 6000]), cell("multer", [1000, 1000, 1000])], "multer")).toEqual(["met"]);
  expect(verdictOf([cell("ours-put", [4000, 4900, 9000]), cell("multer", [1000, 1000, 1000])], "multer")).toEqual(["missed"]);
});

test("a door that failed has missed its goals, however fast it was", () => {
  expect(verdictOf([cell("ours-put", [9000], 1024, 1), cell("multer", [1000])], "multer")).toEqual(["missed"]);
});

test("a competitor that failed gives nothing to compare with", () => {
  expect(verdictOf([cell("ours-put", [9000]), cell("multer", [1000], 1024, 1)], "multer")).toEqual(["not measured"]);
});

test("large files are held against the raw server that hashes, writes and syncs", () => {
  const uploads = [cell("ours-put", [85], 10_485_760), cell("hash-file", [100], 10_485_760), cell("multer", [50], 10_485_760)];
  expect(verdictOf(uploads, "file + fsync")).toEqual(["met"]);
  expect(verdictOf(uploads, "multer")).toEqual([]);
});

test("options are read with their units, and bad ones are named", () => {
  expect(parseOptions(["--sizes", "1k,10M,1g,77", "--clients", "1,64"])).toMatchObject({
    sizesBytes: [1024, 10_485_760, 1_073_741_824, 77], clients: [1, 64], rounds: 5,
  });
  expect(parseOptions(["--quick", "--rounds", "3"])).toMatchObject({ rounds: 3, seconds: 0.5 });
  expect(() => parseOptions(["--sizes", "1q"])).toThrow("1q");
  expect(() => parseOptions(["--clients", "0"])).toThrow("--clients");
  expect(() => parseOptions(["--only", "speed"])).toThrow("speed");
});

test("a table's columns stand under each other, and a short row is filled up", () => {
  expect(table(["a", "wide"], [["long cell"]])).toBe("| a         | wide |\n| --------- | ---- |\n| long cell |      |");
});
