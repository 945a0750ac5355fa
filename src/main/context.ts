import { hostname } from "node:os";
import { randomBytes } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import type { Config } from "../core/config.ts";
import { armFailpoints } from "../core/failpoints.ts";
import type { Log } from "../core/log.ts";
import { openDb } from "../db/pool.ts";
import type { ObjectStore } from "../objects/object-store.ts";
import { openObjectStore } from "../objects/open.ts";
import { createVerifier } from "../objects/verify.ts";
import { createDamage } from "../files/damage.ts";
import { createFiles } from "../files/files.ts";
import { createEvictionWatch } from "../stream/eviction.ts";
import { createPresence } from "../stream/presence.ts";
import { closeRedis, openRedis, whenReady } from "../stream/redis.ts";
import { createSlices } from "../stream/slices.ts";
import { EVENTS_STREAM } from "../events/messages.ts";
import { createSpool } from "../events/spool.ts";
import { createInbox } from "../uploads/inbox.ts";
import { EVENTS } from "../uploads/inbox-keys.ts";
import { UPLOADS_STREAM } from "../uploads/messages.ts";
import { createMeter } from "../uploads/live/meter.ts";
import { createPartialUploads } from "../uploads/resumable/partial-uploads.ts";
import { createUnsettled } from "../uploads/status.ts";
import { WORKERS } from "../uploads/live/worker-report.ts";

const FIRST_CONNECT_MS = 1_500;
/** Whoever looks at a page waits for the database no longer than this; what the inbox alone knows is shown then. */
const REQUEST_BUDGET_MS = 3_000;
/** Connections to a bucket for all that takes no longer than the bucket does. */
const BRISK_CONNECTIONS = 64;
const MANIFEST_BYTES = 16_384; // room for a manifest beside a small upload's bytes, in one record

export type Context = Awaited<ReturnType<typeof openContext>>;

/** Builds each thing once, for whichever process asks. */
export async function openContext({ config, log, clock }: { config: Config; log: Log; clock: Clock }) {
  armFailpoints(config.FAILPOINTS);
  const name = `${hostname()}-${process.pid}-${randomBytes(3).toString("hex")}`;
  const db = openDb({ uri: config.PG_URI, poolSize: config.PG_POOL_SIZE, name: `connectstorm ${name}`.slice(0, 63), log });
  const requestDb = db.within(REQUEST_BUDGET_MS);
  const redis = openRedis({ url: config.REDIS_URL, commandTimeoutMs: config.REDIS_TIMEOUT_MS, log });
  const inboxStore = await openObjectStore({ ...placeOf(config, config.INBOX === "s3", config.INBOX_DIR, "inbox/", MANIFEST_BYTES), dependency: "inbox" });
  const storage = await openStorage(config);
  const inbox = createInbox({
    store: inboxStore, smallObjectBytes: config.SMALL_OBJECT_BYTES, limitBytes: config.MAX_UPLOAD_BYTES, allowedTypes: config.ALLOWED_TYPES,
    orphanAgeMs: config.ORPHAN_AGE_SECONDS * 1000, clock,
  });
  const stream = config.REDIS_PREFIX + UPLOADS_STREAM;
  const verifier = createVerifier({ store: storage });
  const damage = createDamage({ db, verifier, name, log });
  const files = createFiles({ db: requestDb, verifier, damage, unsettled: createUnsettled({ inbox, db: requestDb, redis, stream, log }) });
  await whenReady(redis, FIRST_CONNECT_MS);
  const slices = createSlices(redis, config.REDIS_PREFIX);
  const meter = createMeter({ slices, redis, stream, name, clock, log });

  return {
    config, log, clock, name, db, requestDb, redis, eviction: createEvictionWatch({ redis, log }), inbox,
    partials: createPartialUploads({ store: inboxStore }), storage, verifier, damage, files, stream, slices, meter,
    eventsStream: config.REDIS_PREFIX + EVENTS_STREAM, spool: createSpool({ store: inboxStore, prefix: EVENTS }),
    workers: createPresence(redis, config.REDIS_PREFIX + WORKERS),
    async close() {
      await meter.close();
      await damage.stop();
      await closeRedis(redis);
      await db.close();
      await inboxStore.close();
      await storage.close();
    },
  };
}

/** The final storage. @throws Unavailable when its folder cannot be used */
export function openStorage(config: Config): Promise<ObjectStore> {
  return openObjectStore({ ...placeOf(config, config.STORAGE_MODE === "s3", config.STORAGE_DIR, "", 0), dependency: "storage" });
}

function placeOf(config: Config, inBucket: boolean, folder: string, prefix: string, extraBytes: number) {
  if (!inBucket) return { mode: "disk" as const, folder, smallObjectBytes: config.SMALL_OBJECT_BYTES + extraBytes };
  return {
    mode: "s3" as const,
    bucket: config.S3_BUCKET!,
    endpoint: config.S3_ENDPOINT,
    region: config.S3_REGION,
    accessKeyId: config.S3_ACCESS_KEY_ID,
    secretAccessKey: config.S3_SECRET_ACCESS_KEY,
    forcePathStyle: config.S3_FORCE_PATH_STYLE,
    requestTimeoutMs: config.S3_TIMEOUT_SECONDS * 1000,
    // A download holds one connection at a time, for as long as its reader pleases. There are as many for downloads alone as
    // there are places for them, so that however slow their readers are, the rest is there for uploads and for the worker.
    maxConnections: BRISK_CONNECTIONS + config.MAX_CONCURRENT_DOWNLOADS,
    largestObjectBytes: config.MAX_UPLOAD_BYTES,
    prefix,
  };
}
