import { repeat, type Job } from "../core/repeat.ts";
import { openTimeSeries, type TimeSeries } from "../db/time-series.ts";
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
const SCRUB_EVERY_MS = 5_000; // between two turns of half a minute
const SWEEP_EVERY_MS = 3_600_000; // or more often, where orphans are not to grow that old

/** Context -> consumers and timers, running. */
export async function openWorkload(context: Context): Promise<Running> {
  const { config, log, clock, db, redis, inbox, partials, storage, verifier, damage, stream, meter, workers, name } = context;
  const blocking = openBlockingRedis({ url: config.REDIS_URL, log });
  await whenReady(blocking, 1_500);
  const stop = new AbortController();
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
  const orphanAgeMs = config.ORPHAN_AGE_SECONDS * 1000;
  let timeSeries: Promise<TimeSeries> | undefined;
  const jobs: Job[] = [
    {
      name: "reconcile",
      everyMs: config.RECONCILE_SECONDS * 1000,
      runOnce: createReconcile({ db, inbox, redis, stream, ageMs: config.RECONCILE_AGE_SECONDS * 1000, orphanAgeMs, stopping: stop.signal, clock, log }).runOnce,
    },
    {
      name: "ledger upkeep",
      everyMs: UPKEEP_EVERY_MS,
      runOnce: createLedgerUpkeep({
        db,
        timeSeries: () => (timeSeries ??= openTimeSeries(db).catch((error) => { timeSeries = undefined; throw error; })),
        retentionDays: config.LEDGER_RETENTION_DAYS, clock, log,
      }).runOnce,
    },
    { name: "audit", everyMs: AUDIT_EVERY_MS, runOnce: createAuditWatch({ db, audit: createAudit({ db, inbox, clock, stopping: stop.signal }), clock, log }).runOnce },
    {
      name: "resumable expiry",
      everyMs: EXPIRE_EVERY_MS,
      runOnce: createResumableExpiry({ partials, expiryMs: config.RESUMABLE_EXPIRY_SECONDS * 1000, stopping: stop.signal, clock, log }).runOnce,
    },
    { name: "stream housekeeping", everyMs: HOUSEKEEPING_EVERY_MS, runOnce: consumer.forgetDeadConsumers },
    ...(config.SCRUB_BYTES_PER_SECOND === 0 ? [] : [{
      name: "scrub",
      everyMs: SCRUB_EVERY_MS,
      runOnce: createScrub({ db, verifier: createVerifier({ store: storage }), damage, bytesPerSecond: config.SCRUB_BYTES_PER_SECOND, stopping: stop.signal, clock, log }).runOnce,
    }]),
    ...[inbox.store, storage].filter(sweeps).map((store) => (
      { name: "sweep", everyMs: Math.min(SWEEP_EVERY_MS, orphanAgeMs), runOnce: () => store.sweep(orphanAgeMs, stop.signal) }
    )),
  ];
  const running = [consumer.run(stop.signal), ...jobs.map((job) => repeat(job, stop.signal, log))];
  log.info({ worker: name, stream }, "settling");

  return {
    name: "workload",
    /** Nothing new is read; of the batch in hand the slice that was begun is settled, and what goes through an inbox breaks off. */
    async stop() {
      stop.abort();
      await Promise.all(running);
      await consumer.leave();
      await report.stop();
      await closeRedis(blocking);
    },
  };
}
