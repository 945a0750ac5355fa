import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import type { Verdict } from "../faults/oracle.ts";

/** One configuration, and what became of it. */
export interface Part {
  name: string;
  acknowledged: number;
  /** Undefined: it broke off before anybody could count. */
  verdict: Verdict | undefined;
  /** What went wrong; with one of these the run ends. */
  troubles: string[];
  /** By status; 0: no answer came. */
  answers: Record<string, number>;
  injected: Record<string, number>;
  /** Anonymous memory, by process. */
  peakMemoryMib: Record<string, number>;
  slowestMs: number;
}

export interface Run {
  minutes: number;
  seed: number;
  /** Those that were run, failed or not. */
  parts: Part[];
  /** How many there are to run. */
  planned: number;
}

/** Of web and of worker, each: docs/… and bench/results hold them to it under load; here also amid faults. */
export const MOST_MEMORY_MIB = 256;

const ROOT = join(import.meta.dirname, "../..");
const PAGE = join(ROOT, "docs/reliability.md");
const [BEGIN, END] = ["<!-- soak: written by npm run soak -->", "<!-- /soak -->"];
const LINES_OF_A_TROUBLE = 3;
const MOST_REASONS = 15;
const MOST_CHARACTERS = 300;

/** Puts the report in its place in docs/reliability.md, whatever came of the run. */
export async function writeReport(run: Run): Promise<void> {
  const page = readFileSync(PAGE, "utf8");
  const [before, after] = [page.slice(0, page.indexOf(BEGIN) + BEGIN.length), page.slice(page.indexOf(END))];
  if (!page.includes(BEGIN) || !page.includes(END)) throw new Error("docs/reliability.md has no place for the report");
  writeFileSync(PAGE, `${before}\n${format(run, describeMachine())}\n${after}`);
}

/** A test file that followed the soak, in its long form. */
export interface Sequel {
  name: string;
  passed: number;
  failed: string[];
  skipped: number;
  minutes: number;
}

/** Adds what came of the long forms to the report of the soak that they followed: one that lost something makes it red. */
export function addSequels(sequels: Sequel[]): void {
  writeFileSync(PAGE, withSequels(readFileSync(PAGE, "utf8"), sequels));
}

export function withSequels(page: string, sequels: Sequel[]): string {
  const failed = sequels.filter((sequel) => sequel.failed.length > 0);
  const red = describeRed(failed.flatMap(({ name, failed: tests }) => tests.map((test) => `${name}: ${test}`)));
  const table = [
    "", "Then the long forms, each test on a system of its own, with its own oracle:", "",
    "| test file | passed | failed | skipped | minutes |", "|---|---|---|---|---|",
    ...sequels.map(({ name, passed, failed: tests, skipped, minutes }) => `| ${name} | ${passed} | ${tests.length} | ${skipped} | ${minutes.toFixed(1)} |`),
  ];
  const begin = page.indexOf(BEGIN) + BEGIN.length + 1;
  const end = page.indexOf(END);
  return [page.slice(0, begin), ...red.map((line) => `${line}\n`), page.slice(begin, end), ...table.map((line) => `${line}\n`), page.slice(end)].join("");
}

/** Why the run is red; empty: it is green. */
export function whyRed({ parts, planned }: Pick<Run, "parts" | "planned">): string[] {
  const reasons = parts.flatMap(({ name, troubles, peakMemoryMib }) => [
    ...troubles.map((trouble) => `${name}: ${trouble}`),
    ...Object.entries(peakMemoryMib).filter(([, mib]) => mib >= MOST_MEMORY_MIB)
      .map(([process, mib]) => `${name}: ${process} held ${mib} MiB, where less than ${MOST_MEMORY_MIB} are allowed`),
  ]);
  if (parts.length < planned) reasons.push(`${planned - parts.length} of ${planned} configurations were not run`);
  return reasons;
}

/** @param about  when, of which commit, on what machine */
export function format(run: Run, about: string): string {
  const { minutes, seed, parts } = run;
  const faults = new Map<string, number>();
  for (const { injected } of parts) for (const [name, count] of Object.entries(injected)) faults.set(name, (faults.get(name) ?? 0) + count);
  const injected = [...faults.values()].reduce((total, count) => total + count, 0);
  const acknowledged = parts.reduce((total, part) => total + part.acknowledged, 0);
  return [
    `\`npm run soak -- --minutes ${minutes} --seed ${seed}\`, ${about}. Load, Redis, PostgreSQL and S3 shared the processor.`,
    "",
    ...describeRed(whyRed(run)),
    `**${number(acknowledged)} uploads acknowledged, ${injected} faults injected, ${total(parts, "lost")} lost, ${total(parts, "doubled")} doubled.**`,
    "",
    "| configuration | 202s | other answers | faults | lost | doubled | at rest after | slowest answer | peak memory (anonymous) |",
    "|---|---|---|---|---|---|---|---|---|",
    ...parts.map((part) => `| ${[
      part.name + (part.troubles.length > 0 ? " – **failed**" : ""), number(part.acknowledged), others(part.answers),
      Object.values(part.injected).reduce((sum, count) => sum + count, 0), part.verdict?.lost ?? "not counted", part.verdict?.doubled ?? "not counted",
      part.verdict && part.troubles.length === 0 ? `${part.verdict.settledAfterSeconds.toFixed(1)} s` : "–", `${(part.slowestMs / 1000).toFixed(1)} s`,
      Object.entries(part.peakMemoryMib).map(([name, mib]) => `${name} ${mib} MiB`).join(", ") || "–",
    ].join(" | ")} |`),
    "",
    `Faults, in random order: ${[...faults].sort(([, a], [, b]) => b - a).map(([name, count]) => `${name} ${count}`).join(", ") || "none"}.`,
  ].join("\n");
}

/** As text between fences: it is the oracle's and the programs' own words. */
function describeRed(reasons: string[]): string[] {
  if (reasons.length === 0) return [];
  const lines = reasons.flatMap((reason) => reason.replaceAll(ROOT, ".").replaceAll(tmpdir(), "").replaceAll("```", "'''").split("\n").slice(0, LINES_OF_A_TROUBLE));
  const shown = lines.slice(0, MOST_REASONS).map((line) => (line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS)} …` : line));
  if (lines.length > shown.length) shown.push(`and ${lines.length - shown.length} lines more`);
  return ["**RED: this run failed.**", "", "```text", ...shown, "```", ""];
}

/** Never 0 where nobody could count. */
function total(parts: Part[], what: "lost" | "doubled"): string {
  const counted = parts.flatMap(({ verdict }) => verdict ?? []);
  const sum = number(counted.reduce((all, verdict) => all + verdict[what], 0));
  const rest = parts.length - counted.length;
  return rest === 0 ? sum : `${counted.length > 0 ? `${sum} and ` : ""}an unknown number`;
}

function number(value: number): string {
  return value.toLocaleString("en-US");
}

function others(answers: Record<string, number>): string {
  const found = Object.entries(answers).filter(([status]) => status !== "202");
  return found.map(([status, count]) => (status === "0" ? `none ${count}` : `${status} ${count}`)).join(", ") || "–";
}

function describeMachine(): string {
  const when = new Date().toISOString().slice(0, 16).replace("T", " ");
  return `${when} UTC, commit ${commit()}, ${cpus().length} cores of ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}, Node.js ${process.version}`;
}

function commit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
  const isChanged = git("status", "--porcelain", "--", "src", "test", "sql").length > 0;
  return git("rev-parse", "--short=10", "HEAD") + (isChanged ? " and changes" : "");
}
