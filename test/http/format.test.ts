import { randomInt } from "node:crypto";
import { expect, test } from "vitest";
import * as server from "../../src/http/format.ts";

/** What the browser loads; it cannot load the server's TypeScript, so the two are twins. */
const browser: typeof server = await import(new URL("../../public/format.js", import.meta.url).href);

test("the server and the browser write figures alike", () => {
  const edges = [0, 1, 1_023, 1_024, 1_048_523, 1_048_524, 1_048_576, 999, 1_000, 999_999, 1e9, 2 ** 40, 2 ** 52, 0.0004, 0.05, 0.9994, 0.9996, 9.94, 9.96, 59.6, 3_600, 86_399.6];
  const random = Array.from({ length: 2_000 }, () => randomInt(2 ** 47) / 10 ** randomInt(12));
  for (const value of [...edges, ...random]) {
    expect(browser.formatBytes(Math.floor(value))).toBe(server.formatBytes(Math.floor(value)));
    expect(browser.formatCount(value)).toBe(server.formatCount(value));
    expect(browser.formatDuration(value)).toBe(server.formatDuration(value));
  }
  expect(browser.formatTime(new Date(0))).toBe(server.formatTime(new Date(0)));
  expect([browser.formatBytes(null), browser.formatTime(null)]).toEqual([server.formatBytes(null), server.formatTime(null)]);
});
