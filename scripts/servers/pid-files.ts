/** Files that hold the pid of a running process, and whether that process is still the one that was meant. */
import { link, mkdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { signalProcess } from "./processes.ts";

/** How a process is told from another one that was given the same pid later. */
export interface Identity {
  /** A text its command line must contain, best a path of ours. */
  commandLine: string;
  /** Its working folder, where the command line alone says too little. */
  folder?: string;
}

export async function writePid(file: string, pid: number): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${pid}\n`);
}

/** Takes the file for this process. @returns its owner's pid: ours, or that of a living process of the same identity */
export async function takePid(file: string, identity: Identity): Promise<number> {
  await mkdir(dirname(file), { recursive: true });
  // Linked into place with its content, so that nobody ever reads an empty one.
  const written = `${file}.${process.pid}`;
  await writeFile(written, `${process.pid}\n`);
  try {
    for (;;) {
      const isTaken = await link(written, file).then(() => false, (error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
        return true;
      });
      if (!isTaken) return process.pid;
      const owner = await findOwner(file, identity);
      if (owner) return owner;
      await rm(file, { force: true });
    }
  } finally {
    await rm(written, { force: true });
  }
}

/** The pid in the file when that process lives and is the one meant; undefined otherwise. */
export async function findOwner(file: string, identity: Identity): Promise<number | undefined> {
  const pid = Number((await readFile(file, "utf8").catch(() => "")).trim());
  return Number.isInteger(pid) && pid > 1 && (await isSameProcess(pid, identity)) ? pid : undefined;
}

export async function isSameProcess(pid: number, identity: Identity): Promise<boolean> {
  if (!isRunning(pid)) return false;
  if (process.platform !== "linux") {
    const listed = spawnSync("ps", ["-p", String(pid), "-o", "command="], { encoding: "utf8" });
    return listed.stdout.includes(identity.commandLine);
  }
  const commandLine = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).replaceAll("\0", " ");
  if (!commandLine.includes(identity.commandLine)) return false;
  return !identity.folder || (await readlink(`/proc/${pid}/cwd`).catch(() => "")) === identity.folder;
}

/** True for a living process; a zombie, which only waits for its parent to notice, is not one. */
export function isRunning(pid: number): boolean {
  if (process.platform !== "linux") return signalProcess(pid, 0);
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** Ends what an earlier run left behind, if it is really that. @returns true when there was something */
export async function stopLeftover(file: string, identity: Identity, signal: NodeJS.Signals, graceMs: number): Promise<boolean> {
  const pid = await findOwner(file, identity);
  if (pid) {
    signalProcess(pid, signal);
    const deadline = Date.now() + graceMs;
    while (isRunning(pid) && Date.now() < deadline) await sleep(50);
    if (isRunning(pid)) signalProcess(-pid, "SIGKILL");
    while (isRunning(pid)) await sleep(20);
  }
  await rm(file, { force: true });
  return pid !== undefined;
}
