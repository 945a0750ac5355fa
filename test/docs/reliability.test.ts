import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { GUARDS } from "../faults/guards.mjs";
import { PROMISED } from "../faults/run-counts.ts";

const ROOT = join(import.meta.dirname, "../..");
const PAGE = readFileSync(join(ROOT, "docs/reliability.md"), "utf8");

test("every guard is in the page with the test that fails without it, and no other", () => {
  const table = PAGE.slice(PAGE.indexOf("## Guards"), PAGE.indexOf("## The last soak"));
  const told = [...table.matchAll(/^\| ([^|]+) \| \[[^\]]+\]\(\.\.\/([^)]+)\)(?:: (.*))? \|$/gm)].map(([, guard, file, name]) => [guard, file, name ?? ""]);
  expect(told).toEqual(GUARDS.map(({ guard, test: [file, name] }) => [guard, file, name]));
});

test("every guard can be switched off: the place in the code is there, once, and so is its test", () => {
  for (const { guard, test: [file, name], also, ...change } of GUARDS) {
    for (const { file: place, from } of [change, ...(also ? [also] : [])]) {
      expect([guard, place, readFileSync(join(ROOT, place), "utf8").split(from).length - 1]).toEqual([guard, place, 1]);
    }
    expect([guard, existsSync(join(ROOT, file!)), typeof name]).toEqual([guard, true, "string"]);
  }
});

test("what the page links to is there", () => {
  const links = [...PAGE.matchAll(/\]\((?!http|#)([^)#]+)/g)].map(([, link]) => link!);
  expect(links.length).toBeGreaterThan(20);
  for (const link of links) expect([link, existsSync(join(ROOT, "docs", link))]).toEqual([link, true]);
});

test("as many cases are tried as the page says", () => {
  expect(PAGE).toContain(`${PROMISED.plans.toLocaleString("en-US")} runs of either in \`npm test\`, 20,000 in the soak.`);
  expect(PAGE).toContain(`${PROMISED.forms.toLocaleString("en-US")} forms and ${PROMISED.bodies} bodies in \`npm test\`, twenty times as many in the soak`);
  expect(readFileSync(join(ROOT, "scripts/soak.mjs"), "utf8")).toContain(`MODEL_RUNS: "20000", FUZZ_RUNS: "${PROMISED.forms * 20}"`);
});
