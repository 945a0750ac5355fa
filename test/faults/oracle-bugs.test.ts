import { expect, test } from "vitest";
import { tellsOfBug } from "./oracle.ts";

// As src/core/log.ts writes them: an error by its name, its message and its causes.
test.each<[string, boolean, object]>([
  ["a request that failed", true, { level: "error", msg: "request failed: a bug", err: { name: "Error" } }],
  ["a job that threw a TypeError", true, { level: "error", msg: "a job failed and will be tried again", err: { name: "TypeError" } }],
  ["a batch that the database took for nonsense", true, { level: "error", msg: "consumer waits before it tries again", err: { name: "error", code: "42601" } }],
  ["an end", true, { level: "fatal", msg: "the process ends", err: { name: "Error" } }],
  ["a Redis that refuses", false, { level: "error", msg: "consumer waits before it tries again", err: { name: "Unavailable" } }],
  ["a dead letter", false, { level: "error", msg: "upload became a dead letter" }],
  ["an outage", false, { level: "warn", msg: "a job failed and will be tried again", err: { name: "TypeError" } }],
])("%s is a bug in the log: %s", (_what, expected, line) => {
  expect(tellsOfBug(JSON.stringify({ process: "worker", ...line }))).toBe(expected);
});

test("what Node warns of is a bug as well, but for what others tell of the next Node", () => {
  expect(tellsOfBug("(node:17) MaxListenersExceededWarning: Possible EventTarget memory leak detected. 11 abort listeners added to [AbortSignal].")).toBe(true);
  expect(tellsOfBug("(node:17) Warning: NodeVersionSupportWarning: The AWS SDK for JavaScript (v3)")).toBe(false);
});

test("half a line, of a process that was killed, is none", () => {
  expect(tellsOfBug('{"level":"error","process":"worker","msg":"reque{"level":"info"}')).toBe(false);
});
