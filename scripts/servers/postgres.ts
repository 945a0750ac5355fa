/** A PostgreSQL of our own on the loopback address: made once, started many times. */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { chooseAccount, runUnder, type Account } from "./postgres-account.ts";
import type { PostgresPrograms } from "./postgres-programs.ts";
import { runProgram, spawnServer, waitUntilReady, type ServerProcess } from "./processes.ts";

const USER = "connectstorm";
/** How long the last server's children may hold its memory after a `kill -9`. */
const LOCK_TIMEOUT_MS = 10_000;

export interface PostgresServer extends ServerProcess {
  /** The URI of `database`, with the superuser's password. */
  uri(database: string): string;
}

export interface PostgresOptions {
  port: number;
  /** Made when missing. Holds `data`, `password` and where possible the socket. */
  folder: string;
  logFile: string;
  /** False for tests only: a power cut may then lose everything. */
  durable?: boolean;
}

/** Starts the server, creating its data first when there is none; it accepts connections when this returns. */
export async function startPostgres(programs: PostgresPrograms, options: PostgresOptions): Promise<PostgresServer> {
  const { account, data } = await prepareFolders(programs, options.folder);
  const password = await providePassword(join(options.folder, "password"));
  await rememberTimescale(programs, options.folder);
  await initialise(programs, account, data, password);
  const deadline = Date.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    try {
      const server = await launch(programs, account, data, password, options);
      return server;
    } catch (error) {
      const isHeld = error instanceof Error && /lock file|still in use|shared memory block/.test(error.message);
      if (!isHeld || Date.now() > deadline) throw error;
      await sleep(300);
    }
  }
}

async function launch(
  programs: PostgresPrograms, account: Account | undefined, data: string, password: string, options: PostgresOptions,
): Promise<PostgresServer> {
  const { port, logFile, durable = true } = options;
  const settings = {
    port, listen_addresses: "127.0.0.1", unix_socket_directories: "",
    max_connections: 100, shared_buffers: "128MB", max_wal_size: "2GB", timezone: "UTC", log_timezone: "UTC",
    ...(programs.timescale && { shared_preload_libraries: "timescaledb", "timescaledb.telemetry_level": "off" }),
    ...(!durable && { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
  };
  const [command, args] = runUnder(account, join(programs.folder, "bin/postgres"), [
    "-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ]);
  const uri = (database: string) => `postgres://${USER}:${password}@127.0.0.1:${port}/${database}`;
  // SIGINT is Postgres's fast shutdown: it ends sessions and leaves nothing to recover.
  const server = spawnServer({ name: "postgres", command, args, cwd: "/", logFile, stopSignal: "SIGINT" });
  try {
    await waitUntilReady(server, () => accepts(uri("postgres")), 60_000);
  } catch (error) {
    await server.stop(0);
    throw error;
  }
  return { ...server, uri };
}

async function accepts(uri: string): Promise<boolean> {
  const client = new Client({ connectionString: uri, connectionTimeoutMillis: 2_000 });
  client.on("error", () => undefined); // The answer below says it all.
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Creates the database when it is missing. */
export async function provideDatabase(server: PostgresServer, name: string): Promise<string> {
  const client = new Client({ connectionString: server.uri("postgres") });
  await client.connect();
  try {
    const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [name]);
    if (rowCount === 0) await client.query(`create database ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
  return server.uri(name);
}

/** Makes the folder and finds the account that can use it. */
async function prepareFolders(programs: PostgresPrograms, folder: string): Promise<{ account: Account | undefined; data: string }> {
  await mkdir(folder, { recursive: true });
  const data = join(folder, "data");
  try {
    return { account: chooseAccount([folder, programs.folder]), data };
  } catch (error) {
    // A root without capabilities to lend (some containers): the data goes where every account can, with a link to it.
    const elsewhere = join("/var/lib/connectstorm", createHash("sha256").update(folder).digest("hex").slice(0, 12));
    const isLink = await readlink(data).then(() => true, () => false);
    if (!isLink && (await readdir(folder)).includes("data")) throw error;
    await mkdir(elsewhere, { recursive: true, mode: 0o755 });
    if (!isLink) await symlink(join(elsewhere, "data"), data);
    return { account: chooseAccount([elsewhere, programs.folder]), data: join(elsewhere, "data") };
  }
}

/** A hypertable cannot be read without the library that made it, which a machine may have lost since. */
async function rememberTimescale(programs: PostgresPrograms, folder: string): Promise<void> {
  const mark = join(folder, "timescale");
  if (programs.timescale) return writeFile(mark, "");
  if (!(await readdir(folder)).includes("timescale")) return;
  throw new Error(`The data in ${folder} was made with TimescaleDB, which cannot be had now. ${programs.reason}`);
}

async function providePassword(file: string): Promise<string> {
  const before = await readFile(file, "utf8").catch(() => "");
  if (before) return before.trim();
  const password = randomBytes(18).toString("base64url");
  await writeFile(file, `${password}\n`, { mode: 0o600 });
  return password;
}

async function initialise(programs: PostgresPrograms, account: Account | undefined, data: string, password: string): Promise<void> {
  const finished = join(data, "connectstorm-ready");
  const isReady = await readFile(finished).then(() => true, () => false);
  if (isReady) return giveTo(account, data);
  // Without its last file this is the rest of an interrupted set-up: no server ever ran on it.
  await rm(data, { recursive: true, force: true });
  await mkdir(data, { mode: 0o700 });
  const passwordFile = `${data}.password`;
  await writeFile(passwordFile, password, { mode: 0o600 });
  await giveTo(account, data, passwordFile);
  try {
    const [command, args] = runUnder(account, join(programs.folder, "bin/initdb"), [
      "-D", data, "-U", USER, "--pwfile", passwordFile, "--auth=scram-sha-256", "--no-instructions",
      // The built-in provider sorts and folds the same on every system.
      "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    ]);
    await runProgram(command, args, { cwd: "/" });
  } finally {
    await rm(passwordFile, { force: true });
  }
  await writeFile(finished, `${programs.version}\n`);
  await giveTo(account, data, finished);
}

/** Postgres insists on owning its folder; the account may differ from last time's (a postgres package installed since). */
async function giveTo(account: Account | undefined, ...paths: string[]): Promise<void> {
  for (const path of account ? paths : []) {
    const { uid } = await stat(path);
    if (uid !== account?.uid) await runProgram("chown", ["-R", `${account?.uid}:${account?.gid}`, path]);
  }
}
