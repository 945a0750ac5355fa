import { expect, test } from "vitest";
import { median, pairedRatio, percentile } from "../../bench/arithmetic.ts";

test("a percentile is the nearest rank of the sorted values", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  expect(percentile(hundred, 50)).toBe(50);
  expect(percentile(hundred, 99)).toBe(99);
  expect(percentile(hundred, 100)).toBe(100);
  expect(percentile([7], 99)).toBe(7);
  expect(percentile([1, 2], 50)).toBe(1);
  expect(percentile([1, 2], 51)).toBe(2);
  expect(percentile([], 50)).toBeNaN();
});

test("the median of an even number of values is the middle of the two in the middle", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
});

test("sorting is by value, not by text", () => {
  expect(median([10, 9, 100])).toBe(10);
});

test("a ratio is taken within each round, so a machine that slows down for both leaves it as it is", () => {
  const ratio = pairedRatio([300, 30, 3], [100, 10, 1]);
  expect(ratio).toEqual({ median: 3, lowest: 3, highest: 3 });
});

test("a round that one of the two lacks is left out of the ratio", () => {
  expect(pairedRatio([10, undefined, 40], [10, 10, 10])).toEqual({ median: 2.5, lowest: 1, highest: 4 });
  expect(pairedRatio([10, 20], [undefined, 0])).toBeUndefined();
});
