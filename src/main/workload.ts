import { setMaxListeners } from "node:events";
import { repeat, type Job } from "../core/repeat.ts";
import { openTimeSeries, type TimeSeries } from "../db/time-series.ts";
import { EVENTS_GROUP } from "../events/messages.ts";
import { createRecording } from "../events/record.ts";
import { createSpoolRecording } from "../events/record-spool.ts";
import { createEventsUpkeep } from "../events/retention.ts";
import { createScrub } from "../files/scrub.ts";
import { sweeps } from "../objects/object-store.ts";
import { createVerifier } from "../objects/verify.ts";
import { createConsumer } from "../stream/consumer.ts";
import { closeRedis, openBlockingRedis, whenReady } from "../stream/redis.ts";
import { UPLOADS_GROUP } from "../uploads/messages.ts";
import { createAudit } from "../uploads/audit/audit.ts";
import { createAuditWatch } from "../uploads/audit/audit-watch.ts";
import { createReconcile } from "../uploads/reconcile.ts";
import { createResumableExpiry } from "../uploads/resumable/resumable-expiry.ts";
import { createLedgerUpkeep } from "../uploads/retention.ts";
import { createSettle } from "../uploads/settle.ts";
import { createWorkerReport } from "../uploads/live/worker-report.ts";
import type { Context } from "./context.ts";
import type { Running } from "./shutdown.ts";

const UPKEEP_EVERY_MS = 3_600_000;
const EXPIRE_EVERY_MS = 3_600_000;
const HOUSEKEEPING_EVERY_MS = 600_000;
const AUDIT_EVERY_MS = 60_000;
const SPOOL_ON_DISK_EVERY_MS = 1_000;
const SPOOL_IN_BUCKET_EVERY_MS = 10_000; // listing a bucket costs money
const EVENT_ENTRIES_AT_ONCE = 100; // of up to 128 KiB
/** Side by side, so that one's events are parsed and copied while PostgreSQL adds the other's to the figures. */
const EVENT_RECORDERS = 2;
const SCRUB_EVERY_MS = 5_000; // between two turns of half a minute
const SWEEP_EVERY_MS = 3_600_000; // or more often, where orphans are not to grow that old

/** Context -> consumers and timers, running. */
export async function openWorkload(context: Context): Promise<Running> {
  const { config, log, clock, db, redis, inbox, partials, storage, verifier, damage, stream, eventsStream, spool, meter, workers, name } = context;
  const blocking = openBlockingRedis({ url: config.REDIS_URL, log });
  await whenReady(blocking, 1_500);
  const stop = new AbortController();
  setMaxListeners(0, stop.signal); // each consumer and job listens while it waits: more than ten in an outage, and no leak
  const report = createWorkerReport({ presence: workers, name, clock, log });

  const consumer = createConsumer({
    redis, blocking, stream, group: UPLOADS_GROUP, name,
    batchSize: config.CONSUMER_BATCH_SIZE,
    claimIdleMs: config.CLAIM_IDLE_SECONDS * 1000,
    retryMs: config.RETRY_SECONDS * 1000,
    handle: createSettle({
      db, inbox, storage, verifier, damage, worker: name, stopping: stop.signal, log,
      meter: {
        failed: meter.failed,
        settled(uploads) {
          meter.settled(uploads);
          report.settled(uploads.length);
        },
      },
    }),
    tell: report.tell,
    log,
  });
  const recording = createRecording({ db, stopping: stop.signal, log });
  const recorders = await Promise.all(Array.from({ length: EVENT_RECORDERS }, async (_, i) => {
    const own = openBlockingRedis({ url: config.REDIS_URL, log });
    await whenReady(own, 1_500);
    const recorder = createConsumer({
      redis, blocking: own, stream: eventsStream, group: EVENTS_GROUP, name: `${name}-${i + 1}`,
      batchSize: EVENT_ENTRIES_AT_ONCE,
      claimIdleMs: config.CLAIM_IDLE_SECONDS * 1000,
      retryMs: config.RETRY_SECONDS * 1000,
      handle: recording.recordEntries,
      log,
    });
    return { ...recorder, close: () => closeRedis(own) };
  }));
  const orphanAgeMs = config.ORPHAN_AGE_SECONDS * 1000;
  let opening: Promise<TimeSeries> | undefined;
  const timeSeries = () => (opening ??= openTimeSeries(db).catch((error) => { opening = undefined; throw error; }));
  const jobs: Job[] = [
    {
      name: "reconcile",
      everyMs: config.RECONCILE_SECONDS * 1000,
      runOnce: createReconcile({ db, inbox, redis, stream, ageMs: config.RECONCILE_AGE_SECONDS * 1000, orphanAgeMs, stopping: stop.signal, clock, log }).runOnce,
    },
    {
      name: "ledger upkeep",
      everyMs: UPKEEP_EVERY_MS,
      runOnce: createLedgerUpkeep({ db, timeSeries, retentionDays: config.LEDGER_RETENTION_DAYS, clock, log }).runOnce,
    },
    {
      name: "events upkeep",
      everyMs: UPKEEP_EVERY_MS,
      runOnce: createEventsUpkeep({
        db, timeSeries, retentionDays: config.EVENT_RETENTION_DAYS, rollupRetentionDays: config.EVENT_ROLLUP_RETENTION_DAYS, stopping: stop.signal, clock, log,
      }).runOnce,
    },
    {
      name: "events spool",
      everyMs: config.INBOX === "s3" ? SPOOL_IN_BUCKET_EVERY_MS : SPOOL_ON_DISK_EVERY_MS,
      runOnce: createSpoolRecording({ db, spool, recording, stopping: stop.signal, log }).runOnce,
    },
    { name: "audit", everyMs: AUDIT_EVERY_MS, runOnce: createAuditWatch({ db, audit: createAudit({ db, inbox, clock, stopping: stop.signal }), clock, log }).runOnce },
    {
      name: "resumable expiry",
      everyMs: EXPIRE_EVERY_MS,
      runOnce: createResumableExpiry({ partials, expiryMs: config.RESUMABLE_EXPIRY_SECONDS * 1000, stopping: stop.signal, clock, log }).runOnce,
    },
    { name: "stream housekeeping", everyMs: HOUSEKEEPING_EVERY_MS, runOnce: () => Promise.all([consumer, recorders[0]!].map(({ forgetDeadConsumers }) => forgetDeadConsumers())) },
    ...(config.SCRUB_BYTES_PER_SECOND === 0 ? [] : [{
      name: "scrub",
      everyMs: SCRUB_EVERY_MS,
      runOnce: createScrub({ db, verifier: createVerifier({ store: storage }), damage, bytesPerSecond: config.SCRUB_BYTES_PER_SECOND, stopping: stop.signal, clock, log }).runOnce,
    }]),
    ...[inbox.store, storage].filter(sweeps).map((store) => (
      { name: "sweep", everyMs: Math.min(SWEEP_EVERY_MS, orphanAgeMs), runOnce: () => store.sweep(orphanAgeMs, stop.signal) }
    )),
  ];
  const running = [consumer.run(stop.signal), ...recorders.map(({ run }) => run(stop.signal)), ...jobs.map((job) => repeat(job, stop.signal, log))];
  log.info({ worker: name, stream }, "settling");

  return {
    name: "workload",
    /** Nothing new is read; of the batch in hand the slice that was begun is settled, and what goes through an inbox breaks off. */
    async stop() {
      stop.abort();
      await Promise.all(running);
      await Promise.all([consumer, ...recorders].map(({ leave }) => leave()));
      await report.stop();
      await Promise.all([closeRedis(blocking), ...recorders.map(({ close }) => close())]);
    },
  };
}
