import { spawn, type ChildProcess } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { MemoryCgroup } from "./memory-cgroup.ts";
import { servers } from "./servers.ts";

const ROOT = join(import.meta.dirname, "../..");

/** Node's own words in the middle of a log: of leaks, of promises nobody looks at, of what is deprecated. The AWS SDK's about the next Node is its own affair. */
export const NODE_WARNS = /^\(node:\d+\) (?!Warning: NodeVersionSupportWarning).*/m;

export interface Program {
  child: ChildProcess;
  /** Of Node itself, also where it is traced. */
  pid: number;
  output(): string;
  /** Resolves with the match when the output has it. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  /** The exit code; null when a signal ended it, which `child.signalCode` tells. */
  exit: Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** Kilobytes, from /proc: VmRSS, RssAnon, VmHWM. */
  memory(field: string): number;
  /** How many files, sockets and the like it has open. */
  descriptors(): number;
}

/** What makes a start unlike production's. */
export interface Conditions {
  /**
   * Runs under strace with these arguments, such as ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"], in
   * all its threads. Without the first of them it works too, but stops at every call there is, and is slow.
   * strace counts `when` for each system call and each thread by itself: with UV_THREADPOOL_SIZE=1 there is one of libuv's.
   * With -P only calls on that path count, and with "-o", file it writes what it saw; otherwise to nowhere.
   */
  strace?: readonly string[];
  /** Moves the clock, such as "+1h"; timers and what the kernel stamps on files stay as they are. */
  clock?: string;
  /** Runs inside of it. */
  cgroup?: MemoryCgroup | undefined;
}

/** Starts one of our processes as production does: node dist/main/<name>.js. `npm test` has built it. */
export function startProgram(name: "web" | "worker" | "migrate" | "verify", env: Record<string, string>, conditions: Conditions = {}): Program {
  return startNode([join(ROOT, "dist/main", `${name}.js`)], env, conditions, name);
}

/** Starts Node with these arguments, under the same conditions. */
export function startNode(args: readonly string[], env: Record<string, string>, { strace, clock, cgroup }: Conditions = {}, name = "node"): Program {
  // strace 6.1 orders no signals from behind the filter.
  const isFilterable = strace?.some((argument) => argument.startsWith("trace=")) && !strace.some((argument) => argument.includes("signal="));
  const filtered = isFilterable ? ["--seccomp-bpf"] : [];
  const traced = strace ? [servers.strace(), "-D", "-f", ...filtered, "-qq", "-o", "/dev/null", ...strace] : [];
  // The variables are for Node alone: its tracer's clock stays right.
  const preload = clock ? { LD_PRELOAD: servers.faketime(), FAKETIME: clock, FAKETIME_DONT_FAKE_MONOTONIC: "1" } : {};
  const moved = Object.entries(preload).flatMap(([variable, value]) => (strace ? ["-E", `${variable}=${value}`] : []));
  const grouped = cgroup ? ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup.folder] : [];
  // strace -D traces from aside, and each of these becomes the next: the child is Node itself.
  const [command, ...rest] = [...grouped, ...traced, ...moved, process.execPath, ...args];
  const child = spawn(command!, rest, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env, ...(strace ? {} : preload) }, stdio: ["ignore", "pipe", "pipe"],
  });
  const pid = child.pid ?? 0;
  let output = "";
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
      for (const look of waiting) look();
    });
  }
  const exit = new Promise<number | null>((resolve) => child.once("close", (code) => {
    if (clock) forgetClock(pid);
    resolve(code);
  }));
  return {
    child,
    pid,
    output: () => output,
    says: (pattern) => new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(output);
        if (!match) return;
        waiting.delete(look);
        resolve(match);
      };
      waiting.add(look);
      look();
      void exit.then((code) => reject(new Error(`${name} ended with ${code} and never said ${pattern}:\n${output}`)));
    }),
    exit,
    kill: (signal) => void child.kill(signal),
    memory: (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]),
    descriptors: () => readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** libfaketime tidies up at the end of a process, but not of one that was killed. */
function forgetClock(pid: number): void {
  for (const name of [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`]) rmSync(join("/dev/shm", name), { force: true });
}
