import { readFileSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Failure, FAILURES, Unavailable, type FailureCode } from "../../src/core/errors.ts";

const page = readFileSync(join(import.meta.dirname, "../../docs/errors.md"), "utf8");
const rows = [...page.matchAll(/^\| `([A-Z_]+)` \| (\d{3}) \| (.+?) \| (.+) \|$/gm)].map(([, code, status, message, advice]) => ({ code: code!, status: Number(status), message: message!, advice: advice! }));

describe("docs/errors.md", () => {
  test("lists the failures of the code, in its order, with their status and sentence", () => {
    expect(rows.map(({ code, status, message }) => [code, status, message])).toEqual(Object.entries(FAILURES).map(([code, { status, message }]) => [code, status, message]));
  });

  test("says what to do about each of them", () => {
    for (const { code, advice } of rows) expect([code, advice]).toEqual([code, expect.stringMatching(/^[A-Z`].{5,}\.$/)]);
  });
});

describe("the failures", () => {
  test("are sorted by a status that exists, and each has a sentence of its own", () => {
    const all = Object.values(FAILURES);
    const statuses = all.map(({ status }) => status as number);
    expect(statuses).toEqual([...statuses].sort((a, b) => a - b));
    const ofTus = [460]; // "Checksum Mismatch", of the tus protocol alone
    expect(statuses.filter((status) => status < 400 || !(status in STATUS_CODES || ofTus.includes(status)))).toEqual([]);
    expect(new Set(all.map(({ message }) => message)).size).toBe(all.length);
    for (const { message } of all) expect(message).toMatch(/^\S.*\.$/);
  });

  test("carry their code, status, sentence and cause", () => {
    const cause = new Error("why");
    for (const code of Object.keys(FAILURES) as FailureCode[]) {
      expect(new Failure(code, undefined, { cause })).toMatchObject({ name: "Failure", code, ...FAILURES[code], cause });
    }
    expect(new Failure("INVALID_QUERY", "limit: too big.")).toMatchObject({ code: "INVALID_QUERY", status: 400, message: "limit: too big." });
  });

  test("are another thing than what is unavailable, which says what it is and why", () => {
    const error = new Unavailable("redis", { cause: new Error("ECONNREFUSED"), full: true });
    expect(error).not.toBeInstanceOf(Failure);
    expect(error).toMatchObject({ dependency: "redis", full: true, message: "redis is full: ECONNREFUSED" });
    expect(new Unavailable("inbox").message).toBe("inbox is unavailable: no answer");
  });
});
