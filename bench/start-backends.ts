import { join } from "node:path";
import { findServersFolder } from "../scripts/servers/folders.ts";
import { findFreePort } from "../scripts/servers/ports.ts";
import { startPostgres } from "../scripts/servers/postgres.ts";
import { providePostgres } from "../scripts/servers/postgres-programs.ts";
import { provideRedis, startRedis } from "../scripts/servers/redis.ts";
import type { ServerProcess } from "../scripts/servers/processes.ts";
import { openBackends, type Backends } from "./backends.ts";

export interface StartedBackends {
  backends: Backends;
  /** The redis-benchmark that came with the server; there may be none. */
  redisBenchmark: { command: string; env: NodeJS.ProcessEnv } | undefined;
}

/**
 * Redis and PostgreSQL with TimescaleDB, durable, on the disk of `folder`, for this run alone. BENCH_REDIS_URL and
 * BENCH_PG_URI name others; REDIS_URL and PG_URI are not looked at, because a bench must not land on somebody's data.
 * @param started  takes the servers as they come up: they are the caller's to stop, also when this fails half-way
 */
export async function startBackends(root: string, folder: string, started: ServerProcess[]): Promise<StartedBackends> {
  const servers = findServersFolder(root);
  let redisBenchmark: StartedBackends["redisBenchmark"];
  let redisUrl = process.env["BENCH_REDIS_URL"];
  if (!redisUrl) {
    const program = await provideRedis(servers);
    const port = await findFreePort();
    started.push(await startRedis(program, { port, dataFolder: join(folder, "redis"), logFile: join(folder, "logs/redis.log") }));
    redisUrl = `redis://127.0.0.1:${port}`;
    redisBenchmark = {
      command: program.command.replace(/redis-server$/, "redis-benchmark"),
      env: program.env ?? process.env,
    };
  }
  let pgUri = process.env["BENCH_PG_URI"];
  if (!pgUri) {
    const programs = await providePostgres(root, servers);
    const postgres = await startPostgres(programs, {
      port: await findFreePort(),
      folder: join(folder, "postgres"),
      logFile: join(folder, "logs/postgres.log"),
    });
    started.push(postgres);
    pgUri = postgres.uri("postgres");
  }
  return { backends: await openBackends({ redisUrl, pgUri }), redisBenchmark };
}

export async function stopAll(started: readonly ServerProcess[]): Promise<void> {
  await Promise.all(started.map((server) => server.stop()));
}
