import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import type pg from "pg";
import { parseConfig, type Config } from "../../src/core/config.ts";
import { createLog } from "../../src/core/log.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openDb } from "../../src/db/pool.ts";
import { EVENTS_GROUP } from "../../src/events/messages.ts";
import { createRecording } from "../../src/events/record.ts";
import { createSpoolRecording } from "../../src/events/record-spool.ts";
import { createStats, type Days } from "../../src/events/stats/stats.ts";
import { openContext } from "../../src/main/context.ts";
import { openSite } from "../../src/main/site.ts";
import { createConsumer } from "../../src/stream/consumer.ts";
import { closeRedis, openBlockingRedis, whenReady } from "../../src/stream/redis.ts";
import { UPLOADS_GROUP } from "../../src/uploads/messages.ts";
import { createReconcile } from "../../src/uploads/reconcile.ts";
import { createSettle } from "../../src/uploads/settle.ts";
import { fetch } from "./fetch.ts";
import { createBucket, createDatabase } from "./places.ts";
import { servers } from "./servers.ts";

export type World = Awaited<ReturnType<typeof openWorld>>;

/**
 * A whole ConnectStorm of its own: database, stream, folders, bucket if asked for, listening server; the worker is run
 * by hand, a batch at a time. close() leaves nothing behind.
 * @param databaseHost  host and port under which the world reaches the database, such as a fault proxy's
 */
export async function openWorld(settings: Partial<Record<keyof Config, string>> = {}, { databaseHost }: { databaseHost?: string } = {}) {
  const id = `t${randomBytes(6).toString("hex")}`;
  const folder = await mkdtemp(join(tmpdir(), "connectstorm-"));
  const database = await createDatabase(id);
  const bucket = settings.INBOX === "s3" || settings.STORAGE_MODE === "s3" ? await createBucket(id) : undefined;
  const env = {
    NODE_ENV: "test", PORT: "0", LOG_LEVEL: "silent",
    REDIS_URL: servers.redisUrl(), REDIS_PREFIX: `${id}:`, REDIS_TIMEOUT_MS: "10000", PG_URI: withHost(database.uri, databaseHost), PG_POOL_SIZE: "5",
    INBOX_DIR: join(folder, "inbox"), STORAGE_DIR: join(folder, "storage"),
    CLAIM_IDLE_SECONDS: "1", RETRY_SECONDS: "0", RECONCILE_AGE_SECONDS: "1",
    ...bucket?.settings, ...settings,
  };
  const config = parseConfig(env);
  const log = createLog(config.LOG_LEVEL, "test");
  let now: Date | undefined;
  const clock = { now: () => now ?? new Date() };

  const migrating = openDb({ uri: config.PG_URI, poolSize: 2, name: "test", log });
  await migrate({ db: migrating, folder: join(import.meta.dirname, "../../sql"), timeSeries: config.TIME_SERIES, log });
  await migrating.close();

  const blocking = openBlockingRedis({ url: config.REDIS_URL, log });
  const [context] = await Promise.all([openContext({ config, log, clock }), whenReady(blocking, 2_000)]); // of a Redis that is not there both wait
  const site = await openSite(context);
  const redis = new Redis(servers.redisUrl());

  function worker(name = "w1") {
    return createConsumer({
      redis: context.redis, blocking, stream: context.stream, group: UPLOADS_GROUP, name, batchSize: config.CONSUMER_BATCH_SIZE,
      claimIdleMs: config.CLAIM_IDLE_SECONDS * 1000, retryMs: config.RETRY_SECONDS * 1000,
      handle: createSettle({ db: context.db, inbox: context.inbox, storage: context.storage, verifier: context.verifier, damage: context.damage, meter: context.meter, worker: name, log }), log,
    });
  }
  const first = worker();
  const recording = createRecording({ db: context.db, log });

  function recorder(name = "w1") {
    return createConsumer({
      redis: context.redis, blocking, stream: context.eventsStream, group: EVENTS_GROUP, name, batchSize: config.CONSUMER_BATCH_SIZE,
      claimIdleMs: config.CLAIM_IDLE_SECONDS * 1000, retryMs: config.RETRY_SECONDS * 1000, handle: createRecording({ db: context.db, log }).recordEntries, log,
    });
  }
  const firstRecorder = recorder();

  return {
    id, env, config, context, site, folder, redis, worker, bucket,
    url: site.url(),
    stream: context.stream,
    /** What the tests look at with their own eyes, past the code under test. */
    async sql<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
      return (await context.db.query<Row>(text, values)).rows;
    },
    setClock(to: Date | undefined) {
      now = to;
    },
    /** Multipart, as a browser or curl -F sends it. */
    upload(bytes: string | Uint8Array = "hello", { name = "hello.txt", type = "text/plain", uploaderId, headers }: UploadOptions = {}) {
      const form = new FormData();
      if (uploaderId !== undefined) form.set("uploader_id", uploaderId);
      form.set("file", new Blob([bytes as string], { type }), name);
      return fetch(`${site.url()}/api/upload`, { method: "POST", body: form, ...(headers && { headers }) });
    },
    /** Raw, as curl -T sends it. */
    put(name: string, bytes: string | Uint8Array, headers: Record<string, string> = {}) {
      return fetch(`${site.url()}/api/upload/${encodeURIComponent(name)}`, { method: "PUT", body: bytes as string, headers });
    },
    /** One batch of the first worker. @returns how many entries it had in hand */
    settle: () => first.runOnce(1),
    /** Batches until the stream is empty. */
    async settleAll() {
      for (let batch = 0; batch < 1_000 && (await redis.xlen(context.stream)) > 0; batch++) await first.runOnce(1);
    },
    /** POST /event or /events, as JSON. */
    send(events: unknown, headers: Record<string, string> = {}) {
      return fetch(`${site.url()}/${Array.isArray(events) ? "events" : "event"}`, {
        method: "POST", body: typeof events === "string" ? events : JSON.stringify(events), headers: { "content-type": "application/json", ...headers },
      });
    },
    recorder,
    recording,
    /** One batch of the first worker's events. @returns how many entries it had in hand */
    record: () => firstRecorder.runOnce(1),
    /** Batches until the stream of events is empty, and what waits on the disk. */
    async recordAll() {
      for (let batch = 0; batch < 1_000 && (await redis.xlen(context.eventsStream)) > 0; batch++) await firstRecorder.runOnce(1);
      await createSpoolRecording({ db: context.db, spool: context.spool, recording, stopping: new AbortController().signal, log }).runOnce();
    },
    async stats(query: Record<string, string>): Promise<{ site_id: string; date: string; total_views: number; unique_users: number; top_paths: { path: string; views: number }[] }> {
      return (await fetch(`${site.url()}/stats?${new URLSearchParams(query)}`)).json() as never;
    },
    figures: (siteId: string, days: Days) => createStats({ db: context.requestDb, clock }).figures(siteId, days, 10),
    reconcile: () => createReconcile({
      db: context.db, inbox: context.inbox, redis: context.redis, stream: context.stream, ageMs: config.RECONCILE_AGE_SECONDS * 1000, orphanAgeMs: config.ORPHAN_AGE_SECONDS * 1000, clock, log,
    }).runOnce(),
    async ledger(): Promise<number> {
      const { rows } = await context.db.query<{ count: number }>("select count(*) as count from file_events");
      return rows[0]!.count;
    },
    async close() {
      await site.stop();
      await closeRedis(blocking);
      await context.close();
      const keys = await redis.keys(`${id}:*`);
      if (keys.length > 0) await redis.del(...keys);
      await redis.quit();
      await database.drop();
      await bucket?.drop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * What waits in the inbox, or is on its way there: manifests, blobs, pieces of resumable uploads. Beside them it keeps records of
 * these, the web processes' tallies, and whose inbox it is.
 */
export async function inboxKeys({ context: { inbox } }: Pick<World, "context">): Promise<string[]> {
  const pages = await Promise.all(["manifests/", "blobs/", "pieces/"].map((prefix) => inbox.store.list(prefix, { limit: 1_000 })));
  return pages.flat().map(({ key }) => key);
}

/** What the web process has written down of its acknowledgements. Undefined: nothing yet. */
export async function tallyOf({ context: { inbox, name } }: Pick<World, "context">): Promise<{ files: number; bytes: number } | undefined> {
  const text = await inbox.store.readWhole(`tallies/${name}`);
  if (!text) return undefined;
  const { files, bytes } = JSON.parse(Buffer.from(text).toString());
  return { files, bytes };
}

export interface UploadOptions {
  name?: string;
  type?: string;
  uploaderId?: string;
  headers?: Record<string, string>;
}

function withHost(uri: string, host: string | undefined): string {
  const url = new URL(uri);
  if (host) url.host = host;
  return url.href;
}
