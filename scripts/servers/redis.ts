/** A real Redis: the machine's own when it is new enough, else Debian's package unpacked into the servers' folder. */
import { mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { openOwnRelease, readDebianMachine } from "./debian-packages.ts";
import { isProvided, provideFolder } from "./folders.ts";
import { findProgram, runProgram, spawnServer, waitUntilReady, type ServerProcess } from "./processes.ts";

/** XAUTOCLAIM's third element and the rest of what the stream room uses came with 7.0. */
const OLDEST_MAJOR = 7;

export interface RedisProgram {
  command: string;
  env?: NodeJS.ProcessEnv;
  version: string;
}

/** @throws Error that says what to install */
export async function provideRedis(serversFolder: string): Promise<RedisProgram> {
  const installed = findProgram("redis-server") ?? findProgram("valkey-server");
  if (installed) {
    const version = await readVersion({ command: installed });
    if (Number.parseInt(version, 10) >= OLDEST_MAJOR) return { command: installed, version };
  }
  const machine = await readDebianMachine();
  if (machine.missing) throw new Error(explainMissing(machine.missing));
  const folder = join(serversFolder, `redis-${machine.codename}-${machine.architecture}`);
  if (!(await isProvided(folder))) {
    await provideFolder(folder, async (temporary) => {
      const release = await openOwnRelease(serversFolder);
      await release.unpack(["redis-server", "redis-tools"], temporary, (name) => name.startsWith("lib") && name !== "libc6");
    }).catch((error: Error) => { throw new Error(explainMissing(error.message)); });
  }
  const libraries = [join(folder, "usr/lib", machine.triplet), join(folder, "lib", machine.triplet)];
  const program = {
    command: join(folder, "usr/bin/redis-server"), env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") },
  };
  return { ...program, version: await readVersion(program) };
}

async function readVersion(program: { command: string; env?: NodeJS.ProcessEnv }): Promise<string> {
  const said = await runProgram(program.command, ["--version"], { ...(program.env && { env: program.env }) });
  return /v=([\d.]+)/.exec(said)?.[1] ?? "0";
}

function explainMissing(reason: string): string {
  const command = process.platform === "darwin" ? "brew install redis" : "apt-get install redis-server";
  return `Redis ${OLDEST_MAJOR} or newer is missing and could not be fetched. ${reason}\n`
    + `Install it (${command}) or name a running one: REDIS_URL=redis://host:6379`;
}

export interface RedisOptions {
  port: number;
  /** Made when missing. */
  dataFolder: string;
  logFile: string;
  /** False for tests only: nothing is kept. */
  durable?: boolean;
  /** Any of redis.conf's, over ours. */
  settings?: Record<string, string>;
}

/** Starts Redis on the loopback address; it answers when this returns. */
export async function startRedis(program: RedisProgram, options: RedisOptions): Promise<ServerProcess> {
  const { port, dataFolder, logFile, durable = true } = options;
  await mkdir(dataFolder, { recursive: true });
  const settings = {
    bind: "127.0.0.1", port, dir: dataFolder, daemonize: "no",
    // A stream that is full must refuse, never forget.
    "maxmemory-policy": "noeviction",
    appendonly: durable ? "yes" : "no", appendfsync: "everysec", save: durable ? "3600 1" : "",
    // Keeps the folder in the command line, by which a later start knows this process as its own.
    "set-proc-title": "no",
    ...options.settings,
  };
  const server = spawnServer({
    name: "redis", command: program.command, cwd: dataFolder, logFile, ...(program.env && { env: program.env }),
    args: Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]),
  });
  try {
    // Loading a long append-only file is part of starting.
    await waitUntilReady(server, () => answersPing(port), 60_000);
  } catch (error) {
    await server.stop(0);
    throw error;
  }
  return server;
}

async function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => socket.write("PING\r\n"));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once("data", (reply) => { socket.destroy(); resolve(reply.toString().startsWith("+PONG")); });
    socket.once("error", () => resolve(false)).once("close", () => resolve(false));
  });
}
