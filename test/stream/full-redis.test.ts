import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { findServersFolder } from "../../scripts/servers/folders.ts";
import { provideRedis, startRedis } from "../../scripts/servers/redis.ts";
import { Unavailable } from "../../src/core/errors.ts";
import { createLog } from "../../src/core/log.ts";
import { append } from "../../src/stream/append.ts";
import { createConsumer } from "../../src/stream/consumer.ts";
import { closeRedis, openBlockingRedis, openRedis, whenReady } from "../../src/stream/redis.ts";
import { findOwnPort } from "../support/own-port.ts";

test("a Redis that is full refuses new entries, and a worker empties it all the same", async () => {
  const folder = await mkdtemp(join(tmpdir(), "full-redis-"));
  const port = await findOwnPort();
  const server = await startRedis(await provideRedis(findServersFolder(join(import.meta.dirname, "../.."))), { port, dataFolder: folder, logFile: join(folder, "redis.log"), durable: false });
  const log = createLog("silent", "test");
  const url = `redis://127.0.0.1:${port}`;
  const redis = openRedis({ url, commandTimeoutMs: 5_000, log });
  const blocking = openBlockingRedis({ url, log });
  try {
    await Promise.all([whenReady(redis, 5_000), whenReady(blocking, 5_000)]);
    const seen: string[] = [];
    const worker = createConsumer({
      redis, blocking, stream: "s", group: "g", name: "w", batchSize: 100, claimIdleMs: 60_000, retryMs: 0, log,
      handle: async (entries) => {
        seen.push(...entries.map(({ key }) => key));
        return new Set<string>();
      },
    });
    await worker.runOnce(1); // makes the group
    for (let i = 0; i < 50; i++) await append(redis, "s", { key: `k${i}`, body: "{}" });
    await redis.config("SET", "maxmemory", "1");
    const refused = await append(redis, "s", { key: "one too many", body: "{}" }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Unavailable);
    while (seen.length < 50) await worker.runOnce(1);
    expect(await redis.xlen("s")).toBe(0);
  } finally {
    await closeRedis(redis);
    await closeRedis(blocking);
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
