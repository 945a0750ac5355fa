import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { followLog, formatNotice } from "../../scripts/log-follower.ts";
import { countTests, formatCounts, secondsOf } from "../../scripts/test-counts.ts";
import { eventually } from "../support/eventually.ts";

const report = (numbers: object, testResults: object[] = []) => JSON.stringify({ ...numbers, testResults });

describe("the last line of a test run", () => {
  test.each([
    ["passed", report({ numPassedTests: 3, numFailedTests: 0, numPendingTests: 0 }), 0, "3 passed, 0 failed"],
    ["passed with some skipped", report({ numPassedTests: 3, numFailedTests: 0, numPendingTests: 1, numTodoTests: 1 }), 0, "3 passed, 0 failed, 2 skipped"],
    ["failed", report({ numPassedTests: 3, numFailedTests: 2 }), 1, "3 passed, 2 failed"],
    ["crashed before the report", "", 1, "0 passed, 1 failed"],
    ["was killed", "", null, "0 passed, 1 failed"],
    ["had an error outside any test", report({ numPassedTests: 3, numFailedTests: 0 }), 1, "3 passed, 1 failed"],
    ["found no test", report({ numPassedTests: 0, numFailedTests: 0 }), 0, "0 passed, 1 failed"],
    ["could not load a file", report({ numPassedTests: 3, numFailedTests: 1 }, [
      { status: "failed", assertionResults: [] }, { status: "failed", assertionResults: [{ status: "failed" }] },
    ]), 1, "3 passed, 2 failed"],
  ])("is right for a run that %s", (_what, text, exitCode, line) => {
    expect(formatCounts(countTests(text, exitCode))).toBe(line);
  });
});

describe("how long a folder's tests took as a whole", () => {
  const file = (name: string, startTime: number, endTime: number, status = "passed") => ({ name, startTime, endTime, status, assertionResults: [{ status }] });

  test("is the time from the first of them to the last, beside whatever else ran", () => {
    const text = report({}, [
      file("/here/test/http/a.test.ts", 0, 99_000), file("/here/test/faults/b.test.ts", 20_000, 30_000), file("/here/test/faults/c.test.ts", 25_000, 70_500, "failed"),
      file("/here/test/faults-of-others/d.test.ts", 0, 99_000), file("/here/test/faults/skipped.test.ts", 0, 0, "skipped"),
    ]);
    expect(secondsOf(text, "/here/test/faults")).toBe(50.5);
  });

  test("is not known where none of them ran", () => {
    expect(secondsOf(report({}, [file("/here/test/http/a.test.ts", 0, 99_000)]), "/here/test/faults")).toBeUndefined();
    expect(secondsOf("", "/here/test/faults")).toBeUndefined();
  });
});

describe("a process's log on the terminal", () => {
  test.each([
    [`{"level":"info","msg":"listening"}`, undefined],
    [`{"level":"warn","msg":"Redis is unreachable","err":{"message":"ECONNREFUSED"}}`, "web warning: Redis is unreachable: ECONNREFUSED"],
    [`{"level":"fatal","msg":"giving up"}`, "web error: giving up"],
    ["Error: Cannot find module", "web: Error: Cannot find module"],
    ["null", undefined],
    ["", undefined],
  ])("shows of %j: %j", (line, shown) => {
    expect(formatNotice("web", line)).toBe(shown);
  });

  test("shows what is written from now on, in whole lines, up to the last one", async () => {
    const folder = await mkdtemp(join(tmpdir(), "log-"));
    const file = join(folder, "web.log");
    await writeFile(file, "from an earlier run\n");
    const said: string[] = [];
    const follower = await followLog("web", file, (line) => said.push(line));
    await appendFile(file, "half a ");
    await appendFile(file, "line: é\n");
    await eventually(() => said, ["web: half a line: é"]);
    await appendFile(file, "the last words\n");
    await follower.close();
    expect(said).toEqual(["web: half a line: é", "web: the last words"]);
    await rm(folder, { recursive: true });
  });
});
