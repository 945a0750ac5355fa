import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import pg from "pg";
import { familyCpuMs, cpuMs, parentOf } from "./procfs.ts";

export interface BackendAddresses {
  redisUrl: string;
  /** Of any database of the server; the bench makes its own. */
  pgUri: string;
}

/**
 * The bench's side of Redis and PostgreSQL. It keeps to keys with its own prefix and to databases of its own, so that a
 * server that is somebody's is left as it was.
 */
export async function openBackends({ redisUrl, pgUri }: BackendAddresses) {
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: 3, protocol: 2 });
  const admin = new pg.Client({ connectionString: pgUri, application_name: "connectstorm-bench" });
  admin.on("error", () => {}); // its next query says so
  await admin.connect();
  const prefix = `bench-${randomBytes(4).toString("hex")}:`;
  const databases = new Set<string>();
  const redisPid = await findRedis(redis);
  const postgresPid = await findPostgres(admin);

  /** An empty database. @returns its URI */
  async function createDatabase(purpose: string): Promise<string> {
    const name = `bench_${purpose}_${randomBytes(4).toString("hex")}`;
    await admin.query(`create database ${name}`);
    databases.add(name);
    const uri = new URL(pgUri);
    uri.pathname = `/${name}`;
    return uri.href;
  }

  async function dropDatabase(uri: string): Promise<void> {
    const name = new URL(uri).pathname.slice(1);
    if (!databases.delete(name)) return;
    await admin.query(`drop database if exists ${name} with (force)`);
  }

  /** Removes every key that the bench or the processes it started have made. */
  async function emptyRedis(): Promise<void> {
    for await (const keys of redis.scanStream({ match: `${prefix}*`, count: 1000 }) as AsyncIterable<string[]>) {
      if (keys.length > 0) await redis.unlink(keys);
    }
  }

  async function close(): Promise<void> {
    await emptyRedis();
    for (const name of databases) await admin.query(`drop database if exists ${name} with (force)`);
    await admin.end();
    redis.disconnect();
  }

  return {
    redis,
    redisUrl,
    prefix,
    stream: `${prefix}uploads`,
    eventsStream: `${prefix}events`,
    createDatabase,
    dropDatabase,
    emptyRedis,
    close,
    versions: { redis: await redisVersion(redis), postgres: await postgresVersion(admin) },
    /** Milliseconds of CPU so far; undefined when the server is on another machine. */
    redisCpuMs: () => (redisPid === undefined ? undefined : cpuMs(redisPid)),
    postgresCpuMs: () => (postgresPid === undefined ? undefined : familyCpuMs(postgresPid)),
  };
}
export type Backends = Awaited<ReturnType<typeof openBackends>>;

async function findRedis(redis: Redis): Promise<number | undefined> {
  const pid = Number(/^process_id:(\d+)/m.exec(await redis.info("server"))?.[1]);
  return isLocal(redis.options.host) && cpuMs(pid) !== undefined ? pid : undefined;
}

/** The postmaster is the parent of the process that answers us. */
async function findPostgres(admin: pg.Client): Promise<number | undefined> {
  const { rows } = await admin.query<{ pid: number }>("select pg_backend_pid() as pid");
  return isLocal(admin.host) && rows[0] !== undefined ? parentOf(rows[0].pid) : undefined;
}

function isLocal(host: string | undefined): boolean {
  return host === undefined || host === "localhost" || host === "127.0.0.1" || host.startsWith("/");
}

async function redisVersion(redis: Redis): Promise<string> {
  const server = await redis.info("server");
  const appendOnly = /^aof_enabled:1/m.test(await redis.info("persistence"));
  return `${/^redis_version:(\S+)/m.exec(server)?.[1]}${appendOnly ? ", append-only file" : ""}`;
}

async function postgresVersion(admin: pg.Client): Promise<string> {
  const { rows } = await admin.query<{ version: string; fsync: string; commit: string; timescale: string | null }>(
    `select current_setting('server_version') as version, current_setting('fsync') as fsync,
            current_setting('synchronous_commit') as commit,
            (select default_version from pg_available_extensions where name = 'timescaledb') as timescale`);
  const found = rows[0];
  if (found === undefined) return "unknown";
  return `${found.version}, TimescaleDB ${found.timescale ?? "none"}, fsync ${found.fsync}, synchronous_commit ${found.commit}`;
}
