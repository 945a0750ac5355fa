import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import pg from "pg";
import { parseConfig, type Config } from "../../src/core/config.ts";
import { createLog } from "../../src/core/log.ts";
import { migrate } from "../../src/db/migrate.ts";
import { openDb } from "../../src/db/pool.ts";
import { EVENTS_STREAM } from "../../src/events/messages.ts";
import { openDiskStore, type DiskStore } from "../../src/objects/disk.ts";
import { pagesOf } from "../../src/objects/object-store.ts";
import { readRecord } from "../../src/uploads/inbox-record.ts";
import { objectKey } from "../../src/uploads/store-object.ts";
import { findOwnPort } from "../support/own-port.ts";
import { createBucket, createDatabase } from "../support/places.ts";
import type { Conditions } from "../support/program.ts";
import { servers } from "../support/servers.ts";
import { openSlot, type Slot } from "./slot.ts";

export interface HubSettings {
  settings?: Partial<Record<keyof Config, string>>;
  webs?: number;
  workers?: number;
  /** Servers of the test's own, when it means to harm them: as the harness reaches them. */
  redisUrl?: string;
  pgUri?: string;
  /** How the system under test reaches them: through a fault proxy. Hosts with ports. */
  through?: { redis?: string; postgres?: string; s3?: string };
  /** Where inbox and storage lie; a folder of its own when left out. */
  folder?: string;
  /** Of every process, such as a limit of memory. */
  conditions?: Conditions;
}

const MANIFEST_BYTES = 16_384; // as in src/main/context.ts: an inbox record holds a manifest beside the bytes

export type Hub = Awaited<ReturnType<typeof openHub>>;

/**
 * The real system as processes, web and worker or several of each, with database, stream, folders and bucket of its own.
 * Reconcile periods are short, so that what was promised "within two of them" can be waited for.
 */
export async function openHub({ settings = {}, webs = 1, workers = 1, redisUrl, pgUri, through = {}, folder: given, conditions = {} }: HubSettings = {}) {
  const id = `f${randomBytes(6).toString("hex")}`;
  const folder = given ?? await mkdtemp(join(tmpdir(), "connectstorm-fault-"));
  const database = await createDatabase(id, pgUri);
  const bucket = settings.INBOX === "s3" || settings.STORAGE_MODE === "s3" ? await createBucket(id) : undefined;
  const seenRedis = redisUrl ?? servers.redisUrl();
  const shared: Record<string, string> = {
    NODE_ENV: "test", LOG_LEVEL: "info",
    REDIS_URL: withHost(seenRedis, through.redis), REDIS_PREFIX: `${id}:`, PG_URI: withHost(database.uri, through.postgres), PG_POOL_SIZE: "5",
    INBOX_DIR: join(folder, "inbox"), STORAGE_DIR: join(folder, "storage"),
    CLAIM_IDLE_SECONDS: "1", RETRY_SECONDS: "0", RECONCILE_SECONDS: "1", RECONCILE_AGE_SECONDS: "1", ORPHAN_AGE_SECONDS: "5",
    CONSUMER_BATCH_SIZE: "50", SHUTDOWN_SECONDS: "10",
    ...bucket?.settings, ...(through.s3 && { S3_ENDPOINT: withHost(servers.s3().endpoint, through.s3).replace(/\/$/, "") }), ...settings,
  };
  const config = parseConfig(shared);

  const log = createLog("silent", "test");
  const migrating = openDb({ uri: database.uri, poolSize: 2, name: "test", log });
  await migrate({ db: migrating, folder: join(import.meta.dirname, "../../sql"), timeSeries: config.TIME_SERIES, log });
  await migrating.close();

  const slots: Slot[] = [];
  const place = (name: "web" | "worker", env: Record<string, string>) => {
    const slot = openSlot(name, { ...shared, ...env }, conditions);
    slots.push(slot);
    return slot;
  };
  const webSlots = [];
  for (let i = 0; i < webs; i++) {
    const port = await findOwnPort();
    webSlots.push(Object.assign(place("web", { PORT: String(port) }), { url: `http://127.0.0.1:${port}` }));
  }
  const workerSlots = Array.from({ length: workers }, () => place("worker", {}));
  const redis = new Redis(seenRedis, { lazyConnect: true, retryStrategy: () => 50, maxRetriesPerRequest: null });
  redis.on("error", () => {}); // it is meant to go away

  async function start(): Promise<void> {
    await Promise.all(slots.map((slot) => slot.start()));
  }

  /** Past the code under test. To connect costs forty times as much as a statement, and the oracle asks many: one is kept. */
  let asking: Promise<pg.Client> | undefined;
  async function sql<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    asking ??= connect();
    const client = await asking;
    try {
      return (await client.query<Row>(text, values)).rows;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.severity === "FATAL") hangUp();
      throw error;
    }
  }

  async function connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: database.uri });
    client.on("error", hangUp); // PostgreSQL is meant to go away, too
    await client.connect().catch((error: unknown) => {
      hangUp();
      throw error;
    });
    return client;
  }

  function hangUp(): void {
    asking?.then((client) => client.end()).catch(() => {});
    asking = undefined;
  }

  /** The disk stores in use, opened beside the processes: LMDB takes several. */
  const stores = new Map<string, Promise<DiskStore>>();
  function storeIn(place: string): Promise<DiskStore> {
    const found = stores.get(place) ?? openDiskStore({ folder: place, dependency: "inbox", smallObjectBytes: config.SMALL_OBJECT_BYTES });
    stores.set(place, found);
    found.catch(() => stores.delete(place)); // the next one to ask tries again
    return found;
  }

  /** Where the inbox is on disk: for what no process of ours would put there. */
  const inboxStore = () => storeIn(config.INBOX_DIR);

  async function inboxKeys(): Promise<string[]> {
    if (config.INBOX === "s3") return (await bucket!.list("inbox/")).map((key) => key.slice("inbox/".length));
    const keys: string[] = [];
    for await (const page of pagesOf(await inboxStore(), "")) keys.push(...page.map(({ key }) => key));
    return keys;
  }

  /** Of a waiting upload's bytes the last one changes a bit. Done twice, they are as they were. */
  async function damageInbox(uploadId: string): Promise<void> {
    const record = `manifests/${uploadId}`;
    const found = config.INBOX === "s3" ? await bucket!.read(`inbox/${record}`) : await (await inboxStore()).readWhole(record);
    const key = readRecord(found!)!.manifest.blob_key ?? record;
    if (config.INBOX === "s3") await flipInBucket(`inbox/${key}`);
    else await flipOnDisk(config.INBOX_DIR, key);
  }

  /** As damageInbox, of what is stored. */
  async function damageStored(sha256: string): Promise<void> {
    if (config.STORAGE_MODE === "s3") await flipInBucket(objectKey(sha256));
    else await flipOnDisk(config.STORAGE_DIR, objectKey(sha256));
  }

  async function flipInBucket(key: string): Promise<void> {
    await bucket!.put(key, flipped(await bucket!.read(key)));
  }

  /** A file's behind the store's back; a record of the index is written anew. */
  async function flipOnDisk(place: string, key: string): Promise<void> {
    const hash = createHash("sha256").update(key).digest("hex");
    const folder = join(place, "files", hash.slice(0, 2));
    const name = (await readdir(folder).catch(() => [])).find((one) => one.startsWith(hash));
    if (name) return writeFile(join(folder, name), flipped(await readFile(join(folder, name))));
    const store = await storeIn(place);
    await store.put(key, flipped((await store.readWhole(key))!));
  }

  /** Each with the number of files that its index knows. */
  async function diskStores(): Promise<{ name: string; folder: string; known: number }[]> {
    const places = [...(config.INBOX === "disk" ? [["inbox", config.INBOX_DIR]] : []), ...(config.STORAGE_MODE === "local" ? [["storage", config.STORAGE_DIR]] : [])];
    return Promise.all(places.map(async ([name, place]) => {
      let known = 0;
      for await (const page of pagesOf(await storeIn(place!), "")) {
        known += page.filter(({ key, sizeBytes }) => sizeBytes > config.SMALL_OBJECT_BYTES + (name === "inbox" && key.startsWith("manifests/") ? MANIFEST_BYTES : 0)).length;
      }
      return { name: name!, folder: place!, known };
    }));
  }

  async function close(): Promise<void> {
    await Promise.all(slots.map((slot) => slot.end()));
    await Promise.all([...stores.values()].map(async (store) => (await store).close()));
    if (redis.status !== "wait") {
      const keys = await redis.keys(`${id}:*`).catch(() => [] as string[]);
      if (keys.length > 0) await redis.del(...keys).catch(() => {});
    }
    redis.disconnect();
    hangUp();
    await database.drop();
    await bucket?.drop();
    if (!given) await rm(folder, { recursive: true, force: true });
  }

  return {
    id, config, folder, bucket, redis, databaseUri: database.uri, webs: webSlots, workers: workerSlots, slots,
    web: webSlots[0]!, worker: workerSlots[0]!,
    urls: webSlots.map(({ url }) => url),
    stream: `${id}:uploads`, eventsStream: `${id}:${EVENTS_STREAM}`,
    start, sql, inboxStore, inboxKeys, damageInbox, damageStored, diskStores, close,
  };
}

function flipped(bytes: Uint8Array): Uint8Array {
  const changed = Buffer.from(bytes);
  changed[changed.length - 1]! ^= 1;
  return changed;
}

function withHost(url: string, host: string | undefined): string {
  const changed = new URL(url);
  if (host) changed.host = host;
  return changed.href;
}
