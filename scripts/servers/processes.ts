/** Programs this checkout runs beside Node: started in their own group, logged to a file, stopped as a tree. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface ServerProgram {
  name: string;
  command: string;
  args: string[];
  /** Standard output and errors are appended here. */
  logFile: string;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
  /** What asks it to end; Postgres understands SIGINT as "now, but cleanly". */
  stopSignal?: NodeJS.Signals;
}

export interface ServerProcess {
  name: string;
  pid: number;
  logFile: string;
  /** Settles when the process is gone, with its exit code or the signal's name. */
  exited: Promise<string>;
  hasExited(): boolean;
  /** Asks it to end, and after `graceMs` ends it and all of its group. */
  stop(graceMs?: number): Promise<void>;
  /** Ends it and all of its group at once, without waiting. */
  kill(): void;
}

export function spawnServer(program: ServerProgram): ServerProcess {
  mkdirSync(dirname(program.logFile), { recursive: true });
  const stopSignal = program.stopSignal ?? "SIGTERM";
  // A terminal's Ctrl-C goes to the whole foreground group; a group of its own lets the caller choose the order.
  const [command, args] = endWithParent(program.command, program.args, stopSignal);
  const log = openSync(program.logFile, "a");
  const child = spawn(command, args, {
    cwd: program.cwd, env: program.env, uid: program.uid, gid: program.gid,
    detached: true, stdio: ["ignore", log, log],
  });
  closeSync(log);
  let gone = false;
  const exited = new Promise<string>((resolve) => {
    child.once("error", (error) => { gone = true; resolve(error.message); });
    child.once("exit", (code, signal) => { gone = true; resolve(signal ?? `code ${code}`); });
  });
  const pid = child.pid ?? 0;
  return {
    name: program.name, pid, logFile: program.logFile, exited, hasExited: () => gone,
    async stop(graceMs = 10_000) {
      if (gone || pid === 0) return;
      signalProcess(pid, stopSignal);
      await Promise.race([exited, sleep(graceMs, undefined, { ref: false })]);
      signalProcess(-pid, "SIGKILL");
      await exited;
    },
    kill() {
      if (!gone && pid !== 0) signalProcess(-pid, "SIGKILL");
    },
  };
}

/** Sends a signal; false when there is nobody to receive it. A negative pid names a group. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}

const programs = new Set<ChildProcess>();

/** Ends what `runProgram` is waiting for, such as a download, so that an interrupted set-up ends at once. */
export function endPrograms(): void {
  for (const child of programs) child.kill("SIGTERM");
}

/**
 * Runs a program to its end and gives its standard output.
 * @throws Error with the last lines it wrote, when it fails
 */
export async function runProgram(
  command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv; uid?: number; gid?: number } = {},
): Promise<string> {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  programs.add(child);
  let output = "", errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => { output += text; });
  child.stderr.setEncoding("utf8").on("data", (text: string) => { errors += text; });
  const code = await new Promise<number | string | null>((resolve, reject) => {
    child.once("error", (error) => reject(new Error(`${command} could not be started: ${error.message}.`)));
    child.once("close", (exitCode, signal) => resolve(signal ?? exitCode));
  }).finally(() => programs.delete(child));
  if (code !== 0) throw new Error(`${command} failed (${code}): ${lastLines(errors.trim() || output.trim(), 6)}`);
  return output;
}

/**
 * Asks until the answer is yes.
 * @throws Error when `server` ended, when `stopping` is told, or after `timeoutMs`; it quotes the end of the server's log
 */
export async function waitUntilReady(
  server: ServerProcess, isReady: () => Promise<boolean>, timeoutMs: number,
  { pauseMs = 20, stopping }: { pauseMs?: number; stopping?: AbortSignal } = {},
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await isReady().catch(() => false))) {
    const reason = server.hasExited() ? `ended at once (${await server.exited})`
      : stopping?.aborted ? "was stopped before it was ready"
      : Date.now() > deadline ? `was not ready after ${timeoutMs / 1000} s` : undefined;
    if (reason) {
      const log = await readFile(server.logFile, "utf8").catch(() => "");
      throw new Error(`${server.name} ${reason}. The end of ${server.logFile}:\n${lastLines(log.trim(), 8)}`);
    }
    await sleep(pauseMs);
  }
}

export function lastLines(text: string, count: number): string {
  return text.split("\n").slice(-count).join("\n");
}

/** Finds a program on PATH; undefined when it is not there. */
export function findProgram(name: string): string | undefined {
  const found = spawnSync("sh", ["-c", `command -v "$1"`, "sh", name], { encoding: "utf8" });
  return found.status === 0 ? found.stdout.trim() : undefined;
}

let deathSignals: boolean | undefined;

/** On Linux the kernel can signal a process whose parent died: nothing is left behind by a `kill -9` on us. */
function endWithParent(command: string, args: string[], signal: NodeJS.Signals): [string, string[]] {
  deathSignals ??= process.platform === "linux"
    && spawnSync("setpriv", ["--pdeathsig", "TERM", "true"], { stdio: "ignore" }).status === 0;
  if (!deathSignals) return [command, args];
  // One setpriv can do everything: a second one would be started with fewer rights.
  if (command === "setpriv") return [command, ["--pdeathsig", signal.slice(3), ...args]];
  return ["setpriv", ["--pdeathsig", signal.slice(3), "--", command, ...args]];
}
