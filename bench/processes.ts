import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { findFreePort } from "../scripts/servers/ports.ts";
import { lastLines, runProgram, spawnServer, waitUntilReady } from "../scripts/servers/processes.ts";

/** A Node process that the bench started. */
export interface Started {
  pid: number;
  /** 0 when it listens on none. */
  port: number;
  /** SIGTERM, and SIGKILL when it has not ended in time. */
  stop(): Promise<void>;
  /** The end of what it printed, and how it ended if nobody stopped it. */
  lastWords(): Promise<string>;
}

const START_WITHIN_MS = 30_000;
const SHOWN_LINES = 3;
const STOP_WITHIN_MS = 40_000; // more than SHUTDOWN_SECONDS of our own processes

export interface StartOptions {
  name: string;
  /** The compiled script. */
  script: string;
  /** Node's own. */
  flags?: readonly string[];
  env: Record<string, string>;
  /** What it prints goes to <logs>/<name>.log. */
  logs: string;
  /** Asked until it answers 200; undefined: the process has no port. */
  readyPath?: string;
}

/** @throws Error, with what the process printed, when it ends or does not answer in time */
export async function startProcess({ name, script, flags = [], env, logs, readyPath }: StartOptions): Promise<Started> {
  const port = readyPath === undefined ? 0 : await findFreePort();
  const server = spawnServer({
    name,
    command: process.execPath,
    args: [...flags, script],
    env: { ...inherited(), ...env, PORT: String(port) },
    logFile: join(logs, `${name}.log`),
  });
  try {
    await waitUntilReady(server, async () => readyPath === undefined || answers(port, readyPath), START_WITHIN_MS, { pauseMs: 10 });
  } catch (error) {
    await server.stop(0);
    throw error;
  }
  const printedBefore = (await stat(server.logFile)).size; // the log is one for all processes of the name
  return {
    pid: server.pid,
    port,
    stop: () => server.stop(STOP_WITHIN_MS),
    async lastWords() {
      const printed = (await readFile(server.logFile)).subarray(printedBefore).toString().trim();
      return lastLines(server.hasExited() ? `${printed}\nended: ${await server.exited}` : printed, SHOWN_LINES);
    },
  };
}

/** Runs a script to its end. @throws Error with what it printed, when it fails */
export async function runScript(script: string, env: Record<string, string>): Promise<void> {
  await runProgram(process.execPath, [script], { env: { ...inherited(), ...env } });
}

/** The settings of whoever runs the bench must not change what is measured. */
function inherited(): Record<string, string> {
  const env: Record<string, string> = { NODE_ENV: "production" };
  for (const name of ["PATH", "HOME", "TMPDIR", "LANG"]) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}

async function answers(port: number, path: string): Promise<boolean> {
  // close: a kept connection would have to be waited for when the server stops
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { connection: "close" },
    signal: AbortSignal.timeout(2_000),
  });
  await response.arrayBuffer();
  return response.status === 200;
}
