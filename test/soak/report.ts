import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import type { Verdict } from "../faults/oracle.ts";

/** One configuration, and what became of it. */
export interface Part extends Verdict {
  name: string;
  /** By status; 0: no answer came. */
  answers: Record<string, number>;
  injected: Record<string, number>;
  /** Anonymous memory, by process. */
  peakMemoryMib: Record<string, number>;
  slowestMs: number;
}

const ROOT = join(import.meta.dirname, "../..");
const PAGE = join(ROOT, "docs/reliability.md");
const [BEGIN, END] = ["<!-- soak: written by npm run soak -->", "<!-- /soak -->"];

/** Puts the report in its place in docs/reliability.md. */
export async function writeReport(run: { minutes: number; seed: number; parts: Part[] }): Promise<void> {
  const page = readFileSync(PAGE, "utf8");
  const [before, after] = [page.slice(0, page.indexOf(BEGIN) + BEGIN.length), page.slice(page.indexOf(END))];
  if (!page.includes(BEGIN) || !page.includes(END)) throw new Error("docs/reliability.md has no place for the report");
  writeFileSync(PAGE, `${before}\n${format(run)}\n${after}`);
}

function format({ minutes, seed, parts }: { minutes: number; seed: number; parts: Part[] }): string {
  const sum = (value: (part: Part) => number) => parts.reduce((total, part) => total + value(part), 0);
  const faults = new Map<string, number>();
  for (const { injected } of parts) for (const [name, count] of Object.entries(injected)) faults.set(name, (faults.get(name) ?? 0) + count);
  const injected = [...faults.values()].reduce((total, count) => total + count, 0);
  const number = (value: number) => value.toLocaleString("en-US");
  const asked = `npm run soak -- --minutes ${minutes} --seed ${seed}`;
  return [
    `\`${asked}\`, ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, commit ${commit()}, ${cpus().length} cores of ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}, Node.js ${process.version}. Load, Redis, PostgreSQL and S3 shared the two cores.`,
    "",
    `**${number(sum((part) => part.acknowledged))} uploads acknowledged, ${injected} faults injected, ${sum((part) => part.lost)} lost, ${sum((part) => part.doubled)} doubled.**`,
    "",
    "| configuration | 202s | other answers | faults | lost | doubled | at rest after | slowest answer | peak memory (anonymous) |",
    "|---|---|---|---|---|---|---|---|---|",
    ...parts.map((part) => `| ${[
      part.name, number(part.acknowledged), others(part.answers), Object.values(part.injected).reduce((total, count) => total + count, 0), part.lost, part.doubled,
      `${part.settledAfterSeconds.toFixed(1)} s`, `${(part.slowestMs / 1000).toFixed(1)} s`,
      Object.entries(part.peakMemoryMib).map(([name, mib]) => `${name} ${mib} MiB`).join(", "),
    ].join(" | ")} |`),
    "",
    `Faults, in random order: ${[...faults].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`).join(", ")}.`,
  ].join("\n");
}

function others(answers: Record<string, number>): string {
  const found = Object.entries(answers).filter(([status]) => status !== "202");
  return found.map(([status, count]) => (status === "0" ? `none ${count}` : `${status} ${count}`)).join(", ") || "–";
}

function commit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
  const isChanged = git("status", "--porcelain", "--", "src", "test", "sql").length > 0;
  return git("rev-parse", "--short=10", "HEAD") + (isChanged ? " and changes" : "");
}
