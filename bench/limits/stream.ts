import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Redis } from "ioredis";

/** How fast the same entries go through a Redis Stream with nothing done about them. */
export interface StreamLimit {
  addedPerSecond: number;
  /** XREADGROUP, then XACK and XDEL in one MULTI, a batch at a time: what the worker does, without the work. */
  readPerSecond: number;
}

const GROUP = "bench";
const ADD_BATCH = 1_000;

/** @param fields  of an entry as the door wrote it */
export async function measureStream({ redisUrl, key, fields, entries, batch }: {
  redisUrl: string;
  key: string;
  fields: readonly string[];
  entries: number;
  batch: number;
}): Promise<StreamLimit> {
  const redis = new Redis(redisUrl, { protocol: 2 }); // with RESP3 a stream read is a map
  try {
    await redis.del(key);
    await redis.xgroup("CREATE", key, GROUP, "0", "MKSTREAM");
    const addingSince = performance.now();
    for (let added = 0; added < entries; added += ADD_BATCH) {
      const pipeline = redis.pipeline();
      for (let index = added; index < Math.min(added + ADD_BATCH, entries); index++) pipeline.xadd(key, "*", ...fields);
      await pipeline.exec();
    }
    const readingSince = performance.now();
    for (let left = entries; left > 0; ) left -= await passOn(redis, key, batch);
    const over = performance.now();
    await redis.del(key);
    return {
      addedPerSecond: (entries / (readingSince - addingSince)) * 1000,
      readPerSecond: (entries / (over - readingSince)) * 1000,
    };
  } finally {
    redis.disconnect();
  }
}

type Read = [key: string, entries: [id: string, fields: string[]][]][] | null;

async function passOn(redis: Redis, key: string, batch: number): Promise<number> {
  const read = (await redis.xreadgroup("GROUP", GROUP, "bench", "COUNT", batch, "STREAMS", key, ">")) as Read;
  const ids = read?.[0]?.[1].map(([id]) => id) ?? [];
  if (ids.length === 0) throw new Error("the stream ended before all its entries were read");
  await redis.multi().xack(key, GROUP, ...ids).xdel(key, ...ids).exec();
  return ids.length;
}

/** XADD as Redis's own benchmark does it, 16 to a pipeline. @returns commands a second; undefined: it is not there */
export async function runRedisBenchmark(
  benchmark: { command: string; env: NodeJS.ProcessEnv } | undefined, redisUrl: string, key: string, fields: readonly string[], requests: number,
): Promise<number | undefined> {
  if (benchmark === undefined) return undefined;
  const { hostname, port } = new URL(redisUrl);
  const args = ["-h", hostname, "-p", port, "-n", String(requests), "-c", "16", "-P", "16", "--csv", "XADD", key, "*", ...fields];
  try {
    const { stdout } = await promisify(execFile)(benchmark.command, args, { env: benchmark.env });
    const last = stdout.trim().split("\n").at(-1) ?? "";
    return Number(/","([\d.]+)"/.exec(last)?.[1] ?? Number.NaN);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
