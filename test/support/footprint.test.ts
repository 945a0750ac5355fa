import { expect, test } from "vitest";
import { findGrowth } from "./footprint.ts";

const before = { memoryKb: 100 * 1024, descriptors: 40 };
const allowed = { memoryKb: 20 * 1024, descriptors: 5 };

test("what grew by as much as is allowed, or shrank, is back to where it was", () => {
  expect(findGrowth(before, { memoryKb: 120 * 1024, descriptors: 45 }, allowed)).toEqual([]);
  expect(findGrowth(before, { memoryKb: 1, descriptors: 1 }, allowed)).toEqual([]);
});

test("what grew by more is named with what it had", () => {
  expect(findGrowth(before, { memoryKb: 130 * 1024, descriptors: 46 }, allowed)).toEqual([
    "a process holds 130 MiB of memory; it had 100, and 20 more are allowed",
    "a process has 46 descriptors open; it had 40, and 5 more are allowed",
  ]);
});
