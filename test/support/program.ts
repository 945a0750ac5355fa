import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");

export interface Program {
  child: ChildProcess;
  output(): string;
  /** Resolves with the match when the output has it. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  exit: Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** Kilobytes, from /proc: VmRSS, RssAnon, VmHWM. */
  memory(field: string): number;
}

/** Starts one of our processes as production does: node dist/main/<name>.js. `npm test` has built it. */
export function startProgram(name: "web" | "worker" | "migrate" | "verify", env: Record<string, string>): Program {
  const child = spawn(process.execPath, [join(ROOT, "dist/main", `${name}.js`)], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env }, stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      output += chunk;
      for (const look of waiting) look();
    });
  }
  const exit = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  return {
    child,
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
    memory: (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]),
  };
}
