/** How many uploads a second does the worker settle, what would bare Redis and bare PostgreSQL allow, and does it keep up with the door? */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { difference } from "./arithmetic.ts";
import type { Backends } from "./backends.ts";
import { measureBeside, type Beside } from "./beside.ts";
import { createHub, putShape, type Hub } from "./hub.ts";
import { openLedger, type Ledger } from "./ledger.ts";
import { copyLedger, measureInserts } from "./limits/insert.ts";
import { measureStream, runRedisBenchmark, type StreamLimit } from "./limits/stream.ts";
import type { Generator } from "./load/generator.ts";
import type { Options } from "./options.ts";
import { watchProcess } from "./procfs.ts";
import { followBacklog, type Following } from "./settling.ts";

export const UPLOAD_BYTES = 1024;
const CLIENTS = 64;
const STREAM_BATCH = 500; // CONSUMER_BATCH_SIZE
const INSERT_BATCHES = [500, 1_000] as const;

/** The worker on a full stream, with the door shut. */
export interface Drain {
  uploads: number;
  acceptedPerSecond: number;
  /** From the first row to the last. */
  settledPerSecond: number;
  /** From the start of the process to the last row. */
  wholeMs: number;
  /** Of CPU, an upload. */
  workerCpuMs: number | undefined;
  redisCpuMs: number | undefined;
  postgresCpuMs: number | undefined;
  peakAnonymousBytes: number | undefined;
  failure: string | undefined;
}

export interface WorkerRound {
  drain: Drain;
  stream: StreamLimit;
  redisBenchmarkPerSecond: number | undefined;
  /** Rows a second, by the rows of a batch. */
  inserts: Record<number, number>;
  beside: Beside[];
}

export interface WorkerTools {
  backends: Backends;
  redisBenchmark: Parameters<typeof runRedisBenchmark>[0];
  generator: Generator;
  options: Options;
  logs: string;
  /** Where V8's CPU profiles go; undefined: none are made. */
  profiles: string | undefined;
  say: (line: string) => void;
  /** What went wrong, for the report; the run goes on. */
  problem: (text: string) => void;
}

export async function measureWorker(tools: WorkerTools): Promise<WorkerRound[]> {
  const rounds: WorkerRound[] = [];
  for (let round = 1; round <= tools.options.rounds; round++) {
    const measured = await measureRound(tools).catch((error: Error) => tools.problem(`worker, round ${round}: ${error.message}`));
    if (measured === undefined) continue;
    const { drain, stream, inserts, beside } = measured;
    tools.say(
      `round ${round}: settled ${drain.settledPerSecond.toFixed(0)}/s${drain.failure ? ` FAILED: ${drain.failure}` : ""}, stream alone ` +
        `${stream.readPerSecond.toFixed(0)}/s, inserts alone ${inserts[STREAM_BATCH]?.toFixed(0)}/s; ` +
        beside.map((run) => `${run.door}: accepted ${run.acceptedPerSecond.toFixed(0)}/s, settled ${run.settledPerSecond.toFixed(0)}/s`).join("; "),
    );
    rounds.push(measured);
  }
  return rounds;
}

async function measureRound(tools: WorkerTools): Promise<WorkerRound> {
  const { backends, options } = tools;
  const drained = await onFreshHub(tools, (hub, ledger, folder) => drainAndCompare(tools, hub, ledger, folder));
  const beside: Beside[] = [];
  for (const door of ["PUT", "POST"] as const) {
    beside.push(
      await onFreshHub(tools, (hub, ledger, folder) =>
        measureBeside({ door, hub, ledger, folder, backends, generator: tools.generator, quick: options.quick })),
    );
  }
  return { ...drained, beside };
}

/** An empty database, an empty stream, an empty folder; all gone afterwards. */
export async function onFreshHub<T>(
  { backends, options, logs, profiles }: Pick<WorkerTools, "backends" | "options" | "logs" | "profiles">,
  work: (hub: Hub, ledger: Ledger, folder: string) => Promise<T>,
): Promise<T> {
  const folder = join(options.dir, "hub");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await backends.emptyRedis();
  const pgUri = await backends.createDatabase("hub");
  try {
    const hub = createHub({ backends, pgUri, logs, profiles });
    await hub.migrate();
    const ledger = await openLedger(pgUri);
    try {
      return await work(hub, ledger, folder);
    } finally {
      await ledger.close();
    }
  } finally {
    await backends.dropDatabase(pgUri);
    await backends.emptyRedis();
    await rm(folder, { recursive: true, force: true });
  }
}

async function drainAndCompare(tools: WorkerTools, hub: Hub, ledger: Ledger, folder: string): Promise<Omit<WorkerRound, "beside">> {
  const { backends, options } = tools;
  const accepted = await fillStream(tools, hub, folder);
  const [entry] = await backends.redis.xrange(backends.stream, "-", "+", "COUNT", 1);
  if (entry === undefined) throw new Error(`nothing is in the stream ${backends.stream}`);
  const drain = await drainStream(hub, ledger, folder, backends, { ...accepted, uploads: options.uploads });

  const limit = { redisUrl: backends.redisUrl, key: `${backends.prefix}limit`, fields: entry[1] };
  const stream = await measureStream({ ...limit, entries: options.uploads, batch: STREAM_BATCH });
  const redisBenchmarkPerSecond = await runRedisBenchmark(
    tools.redisBenchmark, limit.redisUrl, limit.key, limit.fields, 5 * options.uploads);
  const rows = await copyLedger(ledger.client);
  const inserts: Record<number, number> = {};
  for (const batch of INSERT_BATCHES) inserts[batch] = await measureInserts(ledger.client, rows, batch);
  return { drain, stream, redisBenchmarkPerSecond, inserts };
}

/** Uploads through the door, with no worker there. */
async function fillStream({ backends, generator, options }: WorkerTools, hub: Hub, folder: string): Promise<{ acceptedPerSecond: number }> {
  const web = await hub.startWeb(folder, "filling");
  try {
    const accepted = await generator.run({
      port: web.port,
      clients: CLIENTS,
      request: putShape(UPLOAD_BYTES),
      expect: { status: 202, text: `"size":${UPLOAD_BYTES}` },
      warmUp: { requests: 0 },
      measure: { requests: options.uploads },
    });
    if (accepted.failures > 0) throw new Error(`the door failed: ${accepted.reasons.join("; ")}`);
    const queued = await backends.redis.xlen(backends.stream);
    if (queued !== options.uploads) throw new Error(`${options.uploads} uploads were accepted and ${queued} are in the stream`);
    return { acceptedPerSecond: accepted.perSecond };
  } finally {
    await web.stop();
  }
}

async function drainStream(
  hub: Hub, ledger: Ledger, folder: string, backends: Backends, filled: { uploads: number; acceptedPerSecond: number },
): Promise<Drain> {
  const startedAt = performance.now();
  const worker = await hub.startWorker(folder, "draining");
  const watch = watchProcess(worker.pid);
  let before: { redis?: number | undefined; postgres?: number | undefined } = {};
  let followed: Following;
  let redisMs: number | undefined;
  let postgresMs: number | undefined;
  let watched: ReturnType<typeof watch.stop>;
  try {
    followed = await followBacklog({
      ledger,
      backends,
      until: filled.uploads,
      onFirst() {
        watch.begin();
        before = { redis: backends.redisCpuMs(), postgres: backends.postgresCpuMs() };
      },
    });
    watch.end();
    redisMs = difference(backends.redisCpuMs(), before.redis);
    postgresMs = difference(backends.postgresCpuMs(), before.postgres);
  } finally {
    watched = watch.stop();
    await worker.stop();
  }
  const each = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / followed.settled);
  const exactly = await ledger.countExactly();
  const failure = followed.failure
    ?? (exactly.rows === filled.uploads && exactly.files === filled.uploads ? undefined
      : `${filled.uploads} accepted, ${exactly.rows} rows of ${exactly.files} files in the ledger`);
  return {
    ...filled,
    settledPerSecond: followed.settledPerSecond,
    wholeMs: followed.endedAt - startedAt,
    workerCpuMs: each(watched.cpuMs),
    redisCpuMs: each(redisMs),
    postgresCpuMs: each(postgresMs),
    peakAnonymousBytes: watched.peakAnonymousBytes,
    failure,
  };
}
