import { describe, expect, test } from "vitest";
import { parseConfig } from "../../src/core/config.ts";
import { FAILPOINTS, parseFailpoints } from "../../src/core/failpoints.ts";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

describe("failpoints", () => {
  test("are read from a list of steps and what is to happen there", () => {
    expect(parseFailpoints("rows-committed=kill@2, batch-read=pause:500,inbox-listed=stop")).toEqual([
      { name: "rows-committed", action: { what: "kill" }, time: 2 },
      { name: "batch-read", action: { what: "pause", ms: 500 }, time: undefined },
      { name: "inbox-listed", action: { what: "stop" }, time: undefined },
    ]);
  });

  test.each(["nowhere=kill", "rows-committed", "rows-committed=explode", "batch-read=pause"])("%s is refused, with the names there are", (text) => {
    expect(() => parseConfig({ FAILPOINTS: text })).toThrow(/FAILPOINTS: .*manifest-committed/);
  });

  test("are refused in production", () => {
    const production = { NODE_ENV: "production", SECRET_KEY: "0123456789abcdef0123456789abcdef" };
    expect(() => parseConfig({ ...production, FAILPOINTS: "batch-read=kill" })).toThrow(/FAILPOINTS.*production/);
    expect(parseConfig(production).FAILPOINTS).toEqual([]);
  });

  test("each stand in the code, once, and what disk and S3 do differently in either", () => {
    const sources = readdirSync(join(import.meta.dirname, "../../src"), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts")).map((name) => readFileSync(join(import.meta.dirname, "../../src", name), "utf8"));
    const placed = sources.flatMap((text) => [...text.matchAll(/failpoint\("([a-z-]+)"\)/g)].map(([, name]) => name));
    expect(placed.sort()).toEqual([...FAILPOINTS, "file-written"].sort());
  });
});
