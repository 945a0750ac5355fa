/** `npm start`: everything ConnectStorm needs on one machine, in one terminal, until Ctrl-C. */
import { mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { closePackageSources } from "./servers/debian-packages.ts";
import { findServersFolder } from "./servers/folders.ts";
import { stopLeftover, takePid, type Identity } from "./servers/pid-files.ts";
import { provideDatabase, startPostgres } from "./servers/postgres.ts";
import { providePostgres } from "./servers/postgres-programs.ts";
import { endPrograms, lastLines, runProgram, spawnServer, waitUntilReady } from "./servers/processes.ts";
import { provideRedis, startRedis } from "./servers/redis.ts";
import { followLog, rotateLog } from "./log-follower.ts";
import { chooseServerPorts, readStartSettings, type StartSettings } from "./start-settings.ts";
import { formatSummary } from "./start-summary.ts";
import { createStopOrder, type StopOrder } from "./stop-order.ts";
import { supervise } from "./supervisor.ts";

const DATABASE = "connectstorm";
/** A second Ctrl-C sooner than this is npm passing on the first one. */
const REPEATED_SIGNAL_MS = 1_000;
const PARENT_POLL_MS = 250;

interface Site {
  settings: StartSettings;
  data: string;
  stops: StopOrder;
  say(line: string): void;
}

/** @returns the exit code, when everything has been stopped again */
export async function start(root: string): Promise<number> {
  process.chdir(root);
  const data = join(root, ".data");
  const say = (line: string) => console.log(line);
  const pidFile = join(data, "run", "start.pid"), addresses = join(data, "run", "addresses.env");
  const owner = await takePid(pidFile, { commandLine: "scripts/start.mjs", folder: root });
  if (owner !== process.pid) {
    const site = /^SITE=(.*)$/m.exec(await readFile(addresses, "utf8").catch(() => ""))?.[1] ?? "still starting";
    console.error(`ConnectStorm is already running here (pid ${owner}, ${site}). To stop it: kill ${owner}`);
    return 1;
  }
  const stops = createStopOrder();
  const interrupted = listenForSignals(stops, say);
  try {
    await stopLeftovers(root, data, say);
    const settings = await readStartSettings(root);
    const summary = await startAll({ settings, data, stops, say }, addresses);
    if (!stops.isStopping()) say(summary);
    await interrupted;
    return 0;
  } catch (error) {
    if (stops.isStopping()) return 0; // Whatever failed, failed because it was told to end.
    console.error(`\n${error instanceof Error ? error.message : String(error)}`);
    return 1;
  } finally {
    const wasAsked = stops.isStopping();
    await stops.stopAll();
    await closePackageSources();
    await rm(addresses, { force: true });
    await rm(pidFile, { force: true });
    if (wasAsked) say("Stopped.");
  }
}

/** Resolves at the first order to stop; the second one ends everything without waiting. */
function listenForSignals(stops: StopOrder, say: (line: string) => void): Promise<void> {
  return new Promise((resolve) => {
    let firstAt = 0;
    const stop = () => {
      if (firstAt === 0) {
        firstAt = Date.now();
        say("\nStopping … (uploads in flight are finished; Ctrl-C again ends at once)");
        endPrograms();
        void stops.stopAll();
        resolve();
      } else if (Date.now() - firstAt > REPEATED_SIGNAL_MS) {
        stops.killAll();
        say("Ended at once.");
        process.exit(130);
      }
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
    // npm passes a signal to its shell, which dies of it without telling us.
    const shell = process.ppid;
    const watch = setInterval(() => {
      if (process.ppid === shell) return;
      clearInterval(watch);
      if (firstAt === 0) stop();
    }, PARENT_POLL_MS).unref();
    if (!process.env["npm_lifecycle_event"]) clearInterval(watch);
  });
}

/** What a supervisor that was killed could not stop. */
async function stopLeftovers(root: string, data: string, say: (line: string) => void): Promise<void> {
  const pidFile = (name: string) => join(data, "run", `${name}.pid`);
  // It may be a link to a folder that Postgres's account can enter.
  const postgresData = await realpath(join(data, "postgres", "data")).catch(() => join(data, "postgres", "data"));
  const leftovers: [string, Identity, NodeJS.Signals][] = [
    ["web", { commandLine: join(root, "dist/main/web.js") }, "SIGTERM"],
    ["worker", { commandLine: join(root, "dist/main/worker.js") }, "SIGTERM"],
    ["redis", { commandLine: join(data, "redis") }, "SIGTERM"],
    ["postgres", { commandLine: `-D ${postgresData}` }, "SIGINT"],
  ];
  for (const [name, identity, signal] of leftovers) {
    if (await stopLeftover(pidFile(name), identity, signal, 10_000)) say(`• Stopped ${name}, left over from an earlier run`);
  }
}

async function startAll(site: Site, addresses: string): Promise<string> {
  const { settings, data, stops, say } = site;
  const serversFolder = findServersFolder(settings.root);
  await mkdir(join(data, "logs"), { recursive: true });
  await mkdir(settings.storageFolder, { recursive: true });
  await mkdir(settings.inboxFolder, { recursive: true });
  const ports = await chooseServerPorts(data);
  const [redisUrl, postgres] = await allDone([
    settings.redisUrl ?? startOwnRedis(site, serversFolder, ports.redis),
    settings.pgUri ? { pgUri: settings.pgUri, timescaleReason: undefined } : startOwnPostgres(site, serversFolder, ports.postgres),
  ]);
  await closePackageSources();
  const env = {
    ...process.env, REDIS_URL: redisUrl, PG_URI: postgres.pgUri, HOST: settings.host, PORT: String(settings.port),
    STORAGE_DIR: settings.storageFolder, INBOX_DIR: settings.inboxFolder,
  };
  // For scripts that want to look at the ledger; the URI carries a password.
  await writeFile(addresses, `SITE=${settings.siteUrl}\nREDIS_URL=${redisUrl}\nPG_URI=${postgres.pgUri}\n`, { mode: 0o600 });
  stops.throwIfStopping();
  await migrate(site, env);
  stops.throwIfStopping();
  await allDone([
    startProcess(site, "web", env, async () => (await fetch(`${settings.siteUrl}/health`)).ok),
    settings.runsWorkerInWeb ? undefined : startProcess(site, "worker", env, async () => true),
  ]);
  say(`✔ Web and worker`);
  const ledger = await readLedgerKind(settings.siteUrl);
  return formatSummary({ settings, data, redisUrl, ledger, ...postgres });
}

/** The site knows what it found in the database; "native" where it does not say. */
async function readLedgerKind(siteUrl: string): Promise<string> {
  const answer = await fetch(`${siteUrl}/ready`).then((response) => response.json() as Promise<{ ledger?: unknown }>, () => ({ ledger: "" }));
  return answer.ledger === "timescale" ? "timescale" : "native";
}

async function startOwnRedis({ data, stops, say }: Site, serversFolder: string, port: number): Promise<string> {
  const startedAt = Date.now();
  const program = await provideRedis(serversFolder);
  stops.throwIfStopping();
  const logFile = join(data, "logs", "redis.log");
  await rotateLog(logFile);
  stops.add("servers", await supervise({
    name: "redis", pidFile: join(data, "run", "redis.pid"), graceMs: 20_000,
    start: () => startRedis(program, { port, dataFolder: join(data, "redis"), logFile }),
  }, say));
  say(`✔ Redis ${program.version} (${seconds(startedAt)})`);
  return `redis://127.0.0.1:${port}`;
}

async function startOwnPostgres(
  { settings, data, stops, say }: Site, serversFolder: string, port: number,
): Promise<{ pgUri: string; timescaleReason: string | undefined }> {
  const startedAt = Date.now();
  const programs = await providePostgres(settings.root, serversFolder);
  stops.throwIfStopping();
  const logFile = join(data, "logs", "postgres.log");
  await rotateLog(logFile);
  let pgUri = "";
  stops.add("servers", await supervise({
    name: "postgres", pidFile: join(data, "run", "postgres.pid"), graceMs: 30_000,
    async start() {
      const server = await startPostgres(programs, { port, folder: join(data, "postgres"), logFile });
      pgUri = await provideDatabase(server, DATABASE);
      return server;
    },
  }, say));
  say(`✔ PostgreSQL 17 ${programs.timescale ? "with" : "without"} TimescaleDB (${seconds(startedAt)})`);
  return { pgUri, timescaleReason: programs.reason };
}

async function migrate({ settings, data }: Site, env: NodeJS.ProcessEnv): Promise<void> {
  const script = join(settings.root, "dist/main/migrate.js");
  const output = await runProgram(process.execPath, [script], { cwd: settings.root, env }).catch((error: Error) => {
    throw new Error(`The database could not be migrated. ${error.message}`);
  });
  await writeFile(join(data, "logs", "migrate.log"), lastLines(output, 1_000));
}

async function startProcess(site: Site, name: "web" | "worker", env: NodeJS.ProcessEnv, isReady: () => Promise<boolean>): Promise<void> {
  const { settings, data, stops, say } = site;
  const logFile = join(data, "logs", `${name}.log`);
  await rotateLog(logFile);
  const follower = await followLog(name, logFile, (line) => { if (!stops.isStopping()) say(line); });
  stops.add("followers", { stop: () => follower.close(), kill: () => undefined });
  stops.add("site", await supervise({
    name, pidFile: join(data, "run", `${name}.pid`), graceMs: settings.shutdownMs + 2_000,
    async start(stopping) {
      const server = spawnServer({
        name, command: process.execPath, args: [join(settings.root, `dist/main/${name}.js`)], cwd: settings.root, env, logFile,
      });
      try {
        await waitUntilReady(server, isReady, 30_000, { stopping });
      } catch (error) {
        await server.stop(0);
        throw error;
      }
      return server;
    },
  }, say));
}

/** Like Promise.all, but waits for the others when one fails: what they started must be known before it is stopped. */
async function allDone<T extends readonly unknown[]>(work: readonly [...T]): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

function seconds(startedAt: number): string {
  return `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;
}
