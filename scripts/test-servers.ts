/** The real servers the tests run against, on free ports, with data that is thrown away. */
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { provideCeph, startCeph } from "./servers/ceph.ts";
import { provideChromium } from "./servers/chromium.ts";
import { closePackageSources } from "./servers/debian-packages.ts";
import { provideFaketime } from "./servers/faketime.ts";
import { findServersFolder } from "./servers/folders.ts";
import { isRunning } from "./servers/pid-files.ts";
import { findFreePort } from "./servers/ports.ts";
import { startPostgres } from "./servers/postgres.ts";
import { providePostgres } from "./servers/postgres-programs.ts";
import { provideRedis, startRedis } from "./servers/redis.ts";
import { provideStrace } from "./servers/strace.ts";

export interface TestServers {
  /** What the tests read: TEST_REDIS_URL and the like. A server that cannot be had leaves its names out. */
  env: Record<string, string>;
  /** One sentence for each server that is missing. */
  missing: string[];
  stop(): Promise<void>;
}

const FOLDER_PREFIX = "connectstorm-test-";

type Env = Record<string, string>;

/** Provides and starts all servers at once; those named in the environment already are used as they are. */
export async function startTestServers(root: string, report: (line: string) => void): Promise<TestServers> {
  const serversFolder = findServersFolder(root);
  await removeLeftovers();
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  // Postgres may run under another account, which has to pass through.
  await chmod(folder, 0o711);
  const stops: (() => Promise<void>)[] = [];
  const missing: string[] = [];
  let stopped: Promise<void> | undefined;
  const stop = () => stopped ??= (async () => {
    await Promise.all(stops.map((each) => each()));
    await rm(folder, { recursive: true, force: true });
  })();

  const attempt = async (name: string, given: string, start: () => Promise<Env>): Promise<Env> => {
    const startedAt = Date.now();
    if (process.env[given]) {
      report(`✔ ${name}: ${given} is set, so that one is used`);
      return {};
    }
    try {
      const env = await start();
      report(`✔ ${name} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`);
      return env;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      missing.push(reason);
      report(`✘ ${name} is missing: ${reason}`);
      return {};
    }
  };

  const redis = async (): Promise<Env> => {
    const port = await findFreePort();
    const server = await startRedis(await provideRedis(serversFolder), {
      port, dataFolder: join(folder, "redis"), logFile: join(folder, "redis.log"), durable: false,
    });
    stops.push(() => server.stop());
    return { TEST_REDIS_URL: `redis://127.0.0.1:${port}` };
  };
  const postgres = async (): Promise<Env> => {
    const programs = await providePostgres(root, serversFolder);
    if (!programs.timescale) {
      missing.push(`TimescaleDB: ${programs.reason}`);
      report(`✘ TimescaleDB is missing, plain PostgreSQL is used: ${programs.reason}`);
    }
    const server = await startPostgres(programs, {
      port: await findFreePort(), folder: join(folder, "postgres"), logFile: join(folder, "postgres.log"), durable: false,
    });
    stops.push(() => server.stop());
    return { TEST_PG_URI: server.uri("postgres") };
  };
  const ceph = async (): Promise<Env> => {
    const server = await startCeph(await provideCeph(serversFolder), join(folder, "ceph"));
    stops.push(() => server.stop());
    return {
      TEST_S3_ENDPOINT: server.endpoint, TEST_S3_REGION: server.region,
      TEST_S3_ACCESS_KEY_ID: server.accessKeyId, TEST_S3_SECRET_ACCESS_KEY: server.secretAccessKey,
    };
  };
  const found = await Promise.all([
    attempt("Redis", "TEST_REDIS_URL", redis),
    attempt("PostgreSQL with TimescaleDB", "TEST_PG_URI", postgres),
    attempt("S3 (Ceph)", "TEST_S3_ENDPOINT", ceph),
    attempt("Chromium", "TEST_CHROMIUM", async () => ({ TEST_CHROMIUM: await provideChromium(serversFolder) })),
    // Other systems have no such things, and their tests do without.
    ...(process.platform === "linux" ? [
      attempt("strace", "TEST_STRACE", async () => ({ TEST_STRACE: await provideStrace(serversFolder) })),
      attempt("libfaketime", "TEST_FAKETIME", async () => ({ TEST_FAKETIME: await provideFaketime(serversFolder) })),
    ] : []),
  ]);
  await closePackageSources();
  return { env: Object.assign({}, ...found) as Env, missing, stop };
}

/** A run that was killed could not tidy up; its servers died with it, its folder did not. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = Number(name.startsWith(FOLDER_PREFIX) ? name.slice(FOLDER_PREFIX.length).split("-")[0] : 0);
    // Another user's folder stays: removing it fails, and that is right.
    if (owner && !isRunning(owner)) await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined);
  }
}

/** For running single test files by hand: prints the environment and stays until Ctrl-C. */
export async function holdTestServers(root: string): Promise<void> {
  const servers = await startTestServers(root, (line) => console.error(line));
  for (const [name, value] of Object.entries(servers.env)) console.log(`export ${name}='${value}'`);
  console.error("Copy these lines to another terminal and run npx vitest there. Ctrl-C stops the servers.");
  const held = setInterval(() => undefined, 3_600_000);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      clearInterval(held);
      void servers.stop();
    });
  }
}
