import { execFileSync } from "node:child_process";
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { median } from "./arithmetic.ts";

/** Where and when it was measured: absolute figures say nothing without it. */
export interface Machine {
  date: string;
  commit: string;
  command: string;
  cpu: string;
  cores: number;
  memoryGib: number;
  system: string;
  node: string;
  redis: string;
  postgres: string;
  disk: string;
  /** Median of fdatasync after 4 KiB, milliseconds: what each durable answer has to wait for at least once. */
  syncMs: number;
  /** Of the last minute, before the run began. Above a few tenths somebody else was working too. */
  loadBefore: number;
}

export function describeMachine({ root, dir, args, redis, postgres }: {
  root: string;
  dir: string;
  args: readonly string[];
  redis: string;
  postgres: string;
}): Machine {
  return {
    date: new Date().toISOString().slice(0, 16).concat("Z"),
    commit: describeCommit(root),
    command: ["npm run bench", ...(args.length > 0 ? ["--", ...args] : [])].join(" "),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    system: `${process.platform} ${release()} ${process.arch}`,
    node: process.version,
    redis,
    postgres,
    disk: ask("findmnt", ["-no", "FSTYPE,OPTIONS", "--target", dir], dir).replaceAll(/\s+/g, " ") || "unknown",
    syncMs: measureSync(dir),
    loadBefore: loadavg()[0] ?? 0,
  };
}

/** The short hash, with a plus when the tree differs from it. */
function describeCommit(root: string): string {
  const hash = ask("git", ["rev-parse", "--short=10", "HEAD"], root);
  if (hash === "") return "uncommitted";
  return ask("git", ["status", "--porcelain"], root) === "" ? hash : `${hash}+`;
}

/** Empty: the program is not there, or had nothing to say. */
function ask(command: string, args: string[], cwd: string): string {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "";
  }
}

function measureSync(dir: string): number {
  const path = join(dir, "sync-probe");
  const file = openSync(path, "w");
  const took: number[] = [];
  try {
    for (let turn = 0; turn < 50; turn++) {
      writeSync(file, Buffer.alloc(4096, turn));
      const startedAt = performance.now();
      fdatasyncSync(file);
      took.push(performance.now() - startedAt);
    }
  } finally {
    closeSync(file);
    rmSync(path);
  }
  return median(took);
}
