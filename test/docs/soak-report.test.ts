import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { format, whyRed, withSequels, type Part } from "../soak/report.ts";

const GREEN: Part = {
  name: "all on disk, 512 MB", acknowledged: 1_200, verdict: { acknowledged: 1_200, lost: 0, doubled: 0, settledAfterSeconds: 12.34 }, troubles: [],
  answers: { 202: 1_200, 0: 3, 503: 2 }, injected: { "Redis down": 2, "web killed": 1 }, peakMemoryMib: { web: 101, worker: 190 }, slowestMs: 2_040,
};

function report(parts: Part[], planned = parts.length): string {
  return format({ minutes: 30, seed: 7, parts, planned }, "now, here");
}

describe("the report of a soak", () => {
  test("of a green run has what happened, and no reason to be red", () => {
    expect(whyRed({ parts: [GREEN, GREEN], planned: 2 })).toEqual([]);
    const text = report([GREEN, GREEN]);
    expect(text).not.toContain("RED");
    expect(text).toContain("`npm run soak -- --minutes 30 --seed 7`, now, here.");
    expect(text).toContain("**2,400 uploads acknowledged, 6 faults injected, 0 lost, 0 doubled.**");
    expect(text).toContain("| all on disk, 512 MB | 1,200 | none 3, 503 2 | 3 | 0 | 0 | 12.3 s | 2.0 s | web 101 MiB, worker 190 MiB |");
    expect(text).toContain("Faults, in random order: Redis down 4, web killed 2.");
  });

  test("of a run with a loss is red, says why, and counts what was lost and doubled", () => {
    const lossy = { ...GREEN, verdict: { ...GREEN.verdict!, lost: 3, doubled: 1 }, troubles: ["LOST: 3 acknowledged uploads have no ledger row, such as 7", "web ended by itself with 1:\na\nb\nc"] };
    const text = report([GREEN, lossy], 3);
    expect(text).toContain([
      "**RED: this run failed.**", "", "```text",
      "all on disk, 512 MB: LOST: 3 acknowledged uploads have no ledger row, such as 7",
      "all on disk, 512 MB: web ended by itself with 1:", "a", "b",
      "1 of 3 configurations were not run", "```",
    ].join("\n"));
    expect(text).toContain("3 lost, 1 doubled.**");
    expect(text).toContain("| all on disk, 512 MB – **failed** | 1,200 | none 3, 503 2 | 3 | 3 | 1 | – |");
  });

  test("of a part that nobody could count does not say 0 lost", () => {
    const broken = { ...GREEN, verdict: undefined, troubles: ["connect ECONNREFUSED"] };
    expect(report([GREEN, broken])).toContain("**2,400 uploads acknowledged, 6 faults injected, 0 and an unknown number lost, 0 and an unknown number doubled.**");
    expect(report([broken])).toContain("an unknown number lost");
    expect(report([broken])).toContain("| not counted | not counted | – |");
  });

  test("of a run in which a process held too much memory is red, though nothing was lost", () => {
    const full = { ...GREEN, peakMemoryMib: { web: 255, worker: 256 } };
    expect(whyRed({ parts: [full], planned: 1 })).toEqual(["all on disk, 512 MB: worker held 256 MiB, where less than 256 are allowed"]);
    expect(report([full])).toMatch(/RED[^|]+worker held 256 MiB/);
  });

  test("is short however much went wrong, names no folder of this machine, and stays between its fences", () => {
    const troubles = Array.from({ length: 40 }, (_, index) => `${index} ${join(import.meta.dirname, "../../src/x.ts")} \`\`\` ${"x".repeat(2_000)}`);
    const text = report([{ ...GREEN, troubles }]);
    expect(text.length).toBeLessThan(7_000);
    expect(text).toContain("and 25 lines more");
    expect(text).toContain("./src/x.ts");
    expect(text.split("```").length).toBe(3);
  });
});

describe("what the long forms add to it", () => {
  const page = "before\n<!-- soak: written by npm run soak -->\nthe soak\n<!-- /soak -->\nafter\n";
  const sequel = { name: "test/faults/disk.test.ts", passed: 8, failed: [] as string[], skipped: 1, minutes: 4.25 };

  test("is a line for each file", () => {
    const text = withSequels(page, [sequel, { ...sequel, name: "test/faults/model.test.ts" }]);
    expect(text).not.toContain("RED");
    expect(text).toMatch(/^before\n<!-- soak: written by npm run soak -->\nthe soak\n\nThen the long forms/);
    expect(text).toContain("| test/faults/disk.test.ts | 8 | 0 | 1 | 4.3 |\n| test/faults/model.test.ts | 8 | 0 | 1 | 4.3 |\n<!-- /soak -->\nafter\n");
  });

  test("is red above all where one of them failed: that is where uploads were lost once", () => {
    const text = withSequels(page, [{ ...sequel, failed: ["the worker process killed in the kernel > at every call"] }]);
    expect(text).toContain("soak -->\n**RED: this run failed.**\n\n```text\ntest/faults/disk.test.ts: the worker process killed in the kernel > at every call\n```\n\nthe soak\n");
  });
});
