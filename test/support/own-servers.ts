import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findServersFolder } from "../../scripts/servers/folders.ts";
import { isRunning } from "../../scripts/servers/pid-files.ts";
import { startPostgres } from "../../scripts/servers/postgres.ts";
import { providePostgres } from "../../scripts/servers/postgres-programs.ts";
import { signalProcess, type ServerProcess } from "../../scripts/servers/processes.ts";
import { provideRedis, startRedis } from "../../scripts/servers/redis.ts";
import { eventually } from "./eventually.ts";
import { findOwnPort } from "./own-port.ts";

const ROOT = join(import.meta.dirname, "../..");

/** A server that belongs to one test, which may do to it what it likes. */
export interface OwnServer {
  port: number;
  /** Of its data and logs. */
  folder: string;
  /** While it runs. */
  pid(): number | undefined;
  /** As a power cut: SIGKILL to all its processes. Resolves when they are gone. */
  kill(): Promise<void>;
  /** As an administrator stops it. */
  stop(): Promise<void>;
  /** Again, on the same port and data; it answers when this resolves. */
  start(): Promise<void>;
  /** It keeps its connections and answers nothing, until it is resumed. */
  pause(): void;
  resume(): void;
  /** Stops it and leaves nothing. */
  close(): Promise<void>;
}

export interface OwnRedisOptions {
  /** Of maxmemory; noeviction unless said otherwise. */
  policy?: string;
  /** Such as "20mb"; without it there is no limit. */
  maxmemory?: string;
  /** Whether its data come back after a stop, or a kill (but for the last second, unless it flushes "at once"). Default: no. */
  durable?: boolean | "at once";
}

export async function startOwnRedis({ policy, maxmemory, durable = false }: OwnRedisOptions = {}): Promise<OwnServer & { url: string }> {
  const program = await provideRedis(findServersFolder(ROOT));
  const settings = { ...(policy && { "maxmemory-policy": policy }), ...(maxmemory && { maxmemory }), ...(durable === "at once" && { appendfsync: "always" }) };
  const server = await open("redis", (port, folder) => startRedis(program, {
    port, dataFolder: join(folder, "data"), logFile: join(folder, "redis.log"), durable: Boolean(durable), settings,
  }));
  return { ...server, url: `redis://127.0.0.1:${server.port}` };
}

/** With TimescaleDB where it can be had. After a kill it comes back by its own recovery: what it had committed is there. */
export async function startOwnPostgres({ durable = true }: { durable?: boolean } = {}): Promise<OwnServer & { uri: string }> {
  const programs = await providePostgres(ROOT, findServersFolder(ROOT));
  let uri = "";
  const server = await open("postgres", async (port, folder) => {
    const started = await startPostgres(programs, { port, folder, logFile: join(folder, "postgres.log"), durable });
    uri = started.uri("postgres");
    return started;
  });
  return { ...server, uri };
}

async function open(name: string, launch: (port: number, folder: string) => Promise<ServerProcess>): Promise<OwnServer> {
  const folder = await mkdtemp(join(tmpdir(), `connectstorm-own-${name}-`));
  await chmod(folder, 0o711); // Postgres may run under another account, which has to pass through
  const port = await findOwnPort();
  let running: ServerProcess | undefined;
  let isPaused = false, wasKilled = false;

  async function start() {
    if (running) throw new Error(`${name} is running already`);
    running = await launch(port, folder);
    wasKilled = false;
  }

  async function kill() {
    if (!running) return;
    const { pid, exited } = running;
    signalProcess(pid, "SIGSTOP"); // so that it starts no more children while they are counted
    const pids = [pid, ...childrenOf(pid)];
    for (const each of pids) signalProcess(each, "SIGKILL");
    await exited;
    await eventually(() => pids.filter(isRunning), []);
    running = undefined;
    isPaused = false;
    wasKilled = true;
  }

  async function stop() {
    resume();
    await running?.stop();
    running = undefined;
  }

  /** Each process for itself: Postgres gives its children groups of their own. */
  function pause() {
    if (!running) throw new Error(`${name} is not running`);
    signalProcess(running.pid, "SIGSTOP");
    for (const pid of childrenOf(running.pid)) signalProcess(pid, "SIGSTOP");
    isPaused = true;
  }

  function resume() {
    if (!running || !isPaused) return;
    for (const pid of [...childrenOf(running.pid), running.pid]) signalProcess(pid, "SIGCONT");
    isPaused = false;
  }

  async function close() {
    // A killed Postgres leaves shared memory behind, which its next start finds and frees.
    if (wasKilled && name === "postgres") await start();
    await stop();
    await rm(folder, { recursive: true, force: true });
  }

  try {
    await start();
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return { port, folder, pid: () => running?.pid, kill, stop, start, pause, resume, close };
}

/** The pids of a process's children. */
function childrenOf(parent: number): number[] {
  if (process.platform !== "linux") {
    const { stdout } = spawnSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" });
    return stdout.trim().split("\n").map((line) => line.trim().split(/\s+/).map(Number)).filter(([, of]) => of === parent).map(([pid]) => pid!);
  }
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      // The name, in brackets, may hold anything; after it come the state and the parent.
      return Number(/.*\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1]) === parent;
    } catch {
      return false; // gone meanwhile
    }
  });
}
