import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/**
 * What the kernel says of other processes: CPU time and memory. Linux only; elsewhere everything is undefined and the
 * report shows a dash.
 */
const onLinux = process.platform === "linux";
let tickMs: number | undefined;

/** Milliseconds of CPU, user and system, of all its threads, since the process began. */
export function cpuMs(pid: number): number | undefined {
  const fields = statOf(pid);
  return fields === undefined ? undefined : (Number(fields[11]) + Number(fields[12])) * msPerTick();
}

/**
 * The same for a process, its children and those of them that have ended: PostgreSQL answers each client with a
 * process of its own.
 */
export function familyCpuMs(pid: number): number | undefined {
  const parent = statOf(pid);
  if (parent === undefined) return undefined;
  let ticks = Number(parent[11]) + Number(parent[12]) + Number(parent[13]) + Number(parent[14]);
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const fields = statOf(Number(entry));
    if (fields !== undefined && Number(fields[1]) === pid) ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks * msPerTick();
}

export interface Memory {
  /** The most the process had resident so far, mapped file pages with it (VmHWM). */
  peakBytes: number;
  /** What it has now that is no file's (RssAnon): heap, buffers, stacks. */
  anonymousBytes: number;
}

export function memoryOf(pid: number): Memory | undefined {
  const status = readOf(pid, "status");
  if (status === undefined) return undefined;
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0);
  return { peakBytes: kib("VmHWM") * 1024, anonymousBytes: kib("RssAnon") * 1024 };
}

export function parentOf(pid: number): number | undefined {
  const fields = statOf(pid);
  return fields === undefined ? undefined : Number(fields[1]);
}

export interface Watch {
  /** Of the time from `begin` to `end`. */
  cpuMs: number | undefined;
  peakBytes: number | undefined;
  peakAnonymousBytes: number | undefined;
}

const SAMPLE_MS = 50;

/** Follows one process. Its memory counts from the beginning on, its CPU from `begin` to `end`. */
export function watchProcess(pid: number) {
  let peakBytes = 0;
  let peakAnonymousBytes = 0;
  let cpuAtBegin: number | undefined;
  let cpuAtEnd: number | undefined;
  const sample = (): void => {
    const memory = memoryOf(pid);
    if (memory === undefined) return;
    peakBytes = Math.max(peakBytes, memory.peakBytes);
    peakAnonymousBytes = Math.max(peakAnonymousBytes, memory.anonymousBytes);
  };
  sample();
  const timer = setInterval(sample, SAMPLE_MS);

  return {
    begin() {
      cpuAtBegin = cpuMs(pid);
    },
    end() {
      cpuAtEnd = cpuMs(pid);
      sample();
    },
    stop(): Watch {
      sample();
      clearInterval(timer);
      return {
        cpuMs: cpuAtBegin === undefined || cpuAtEnd === undefined ? undefined : cpuAtEnd - cpuAtBegin,
        peakBytes: peakBytes || undefined,
        peakAnonymousBytes: peakAnonymousBytes || undefined,
      };
    },
  };
}

/** The fields of /proc/<pid>/stat after the name, which may hold blanks: [0] is the state, [1] the parent. */
function statOf(pid: number): string[] | undefined {
  const stat = readOf(pid, "stat");
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Undefined: no such process any more, or no /proc. */
function readOf(pid: number, name: string): string | undefined {
  if (!onLinux) return undefined;
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

function msPerTick(): number {
  tickMs ??= 1000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
  return tickMs;
}
