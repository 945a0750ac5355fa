import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface MemoryCgroup {
  /** A process is put into it by writing its pid to cgroup.procs in here. */
  folder: string;
  /** The most it ever held, the cached files among it. */
  peakBytes(): number;
  /** How many processes of it the kernel ended for lack of memory. */
  kills(): number;
  /** Once its processes are gone. */
  remove(): Promise<void>;
}

/** The two generations' files. Swap is forbidden where it is accounted, or the limit would be none. */
const GENERATIONS = [
  {
    root: "/sys/fs/cgroup", limits: ["memory.max"], noSwap: (_limitBytes: number) => ["memory.swap.max", "0"],
    peak: "memory.peak", kills: ["memory.events", /^oom_kill (\d+)/m],
  },
  {
    root: "/sys/fs/cgroup/memory", limits: ["memory.limit_in_bytes"], noSwap: (limitBytes: number) => ["memory.memsw.limit_in_bytes", String(limitBytes)],
    peak: "memory.max_usage_in_bytes", kills: ["memory.oom_control", /^oom_kill (\d+)/m],
  },
] as const;

/** A group of processes that together may use so much memory; undefined where this machine does not let us make one. */
export function memoryCgroup(limitBytes: number): MemoryCgroup | undefined {
  for (const { root, limits, noSwap, peak, kills } of GENERATIONS) {
    const folder = join(root, `connectstorm-${process.pid}-${randomBytes(4).toString("hex")}`);
    try {
      mkdirSync(folder);
    } catch {
      continue; // not this generation, or not ours to make
    }
    try {
      for (const limit of limits) writeIn(folder, limit, String(limitBytes));
    } catch {
      rmdirSync(folder);
      continue; // a folder without that file: memory is not counted in it
    }
    const [file, value] = noSwap(limitBytes);
    try {
      writeIn(folder, file!, value!);
    } catch {
      // swap is not counted here
    }
    return {
      folder,
      peakBytes: () => Number(readFileSync(join(folder, peak), "utf8")),
      kills: () => Number(kills[1].exec(readFileSync(join(folder, kills[0]), "utf8"))?.[1] ?? 0),
      async remove() {
        for (let attempt = 1; ; attempt++) {
          try {
            return rmdirSync(folder);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "EBUSY" || attempt === 100) throw error;
            await sleep(20); // the kernel is not quite done with the last process
          }
        }
      },
    };
  }
  return undefined;
}

/** Never creates a file: on an ordinary folder it must fail. */
function writeIn(folder: string, file: string, value: string): void {
  writeFileSync(join(folder, file), value, { flag: "r+" });
}
