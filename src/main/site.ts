import type { Server } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PUBLIC_ACCOUNT } from "../accounts/accounts.ts";
import { authenticate } from "../accounts/authenticate.ts";
import { Failure } from "../core/errors.ts";
import { watchLoopDelay } from "../core/loop-delay.ts";
import { detectTimeSeries, type TimeSeriesKind } from "../db/time-series.ts";
import { createAcceptEvents } from "../events/accept.ts";
import { createAnalyticsPagesRouter } from "../events/page/analytics-pages.ts";
import { createEventBacklog } from "../events/backlog.ts";
import { createIntake } from "../events/intake.ts";
import { createEventDoor, createEventsRouters } from "../events/routes.ts";
import { createStats } from "../events/stats/stats.ts";
import { createStatsRouter } from "../events/stats/stats-routes.ts";
import { createTrackerRouter } from "../events/page/tracker-routes.ts";
import { createTurnedAway } from "../events/turned-away.ts";
import { createDownloads } from "../files/downloads.ts";
import { createFilesRouter } from "../files/routes.ts";
import { createAnswerErrors } from "../http/answer-errors.ts";
import { createApp } from "../http/app.ts";
import { createEventStream, type EventStream } from "../http/event-stream.ts";
import * as format from "../http/format.ts";
import { createRateLimits } from "../http/rate-limit.ts";
import { closeUnused } from "../http/connections.ts";
import { createHttpServer } from "../http/server.ts";
import { createCounters } from "../stream/counters.ts";
import { createAccept } from "../uploads/accept.ts";
import { createAdmission } from "../uploads/admission.ts";
import { createBacklog } from "../uploads/backlog.ts";
import { createAudit } from "../uploads/audit/audit.ts";
import { createCounts } from "../uploads/counts.ts";
import { createDeadLetterPagesRouter } from "../uploads/dead-letters/dead-letter-pages.ts";
import { createDeadLettersRouter } from "../uploads/dead-letters/dead-letter-routes.ts";
import { createDeadLetters } from "../uploads/dead-letters/dead-letters.ts";
import { createEnqueue } from "../uploads/enqueue.ts";
import { createHistory } from "../uploads/live/history.ts";
import { createLiveFigures } from "../uploads/live/live-figures.ts";
import { createLiveHistory } from "../uploads/live/live-history.ts";
import { createLiveRouter } from "../uploads/live/live-routes.ts";
import { createLive, type Live } from "../uploads/live/live.ts";
import { createStoreWatch } from "../uploads/live/store-watch.ts";
import { createPagesRouter } from "../uploads/pages.ts";
import { createFinish } from "../uploads/resumable/resumable-finish.ts";
import { createResumable } from "../uploads/resumable/resumable.ts";
import { createDoor, createUploadsRouter } from "../uploads/routes.ts";
import { createStatus } from "../uploads/status.ts";
import { createTally, type Tallied } from "../uploads/audit/tally.ts";
import { UPLOADS_PATH } from "../uploads/resumable/tus-headers.ts";
import { createTusRouter } from "../uploads/resumable/tus-routes.ts";
import type { Context } from "./context.ts";
import { createOpenApiRouter } from "./openapi.ts";
import { createHealthRouter } from "./ready.ts";
import type { Running } from "./shutdown.ts";

const CLOSE_IDLE_EVERY_MS = 100;
const MOST_EVENT_AGE_DAYS = 3_650;
const LOOK_AT_DISK_EVERY_MS = 1_000;
const LOOK_AT_BUCKET_EVERY_MS = 10_000; // 1,000 uploads a request, and each costs a fraction of a cent

export interface Site extends Running {
  server: Server;
  /** Uploads under way, and the memory they may take. */
  underWay(): Readonly<{ uploads: number; memoryBytes: number }>;
  downloadsUnderWay(): number;
  /** Open live views, what was encoded for them, and how often the figures were read. */
  live(): ReturnType<EventStream["counted"]> & { streams: number; reads: number };
  /** What this process has acknowledged, for the audit. */
  tallied(): Tallied;
  /** Where it listens, once it does. */
  url(): string;
}

// dist/main/site.js and src/main/site.ts lie equally deep under the folder that holds views and public.
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Context -> a listening HTTP server. @throws Error when the port is in use, in words */
export async function openSite(context: Context): Promise<Site> {
  const { config, log, db, requestDb, redis, inbox, partials, storage, files, stream, eventsStream, spool, clock, meter, workers, name } = context;
  let stopping = false;
  let ledger: TimeSeriesKind | null = null;
  // Asked again and again until it is known: the database may come later than we do.
  const learnLedger = () => detectTimeSeries(db).then((kind) => { ledger = kind; }, () => { setTimeout(learnLedger, 2_000).unref(); });
  await Promise.race([learnLedger(), new Promise((resolve) => setTimeout(resolve, 1_000))]);

  const enqueue = createEnqueue({ redis, stream, log });
  const deadLetters = createDeadLetters({ db: requestDb, inbox, enqueue, worker: name, log });
  const tally = createTally({ store: inbox.store, name, log });
  const accept = createAccept({ db: requestDb, inbox, deadLetters, enqueue, redis, stream, secret: config.SECRET_KEY, acceptedBy: name, tally, clock });
  const counts = createCounts({ db, redis, stream, ledger: () => ledger, clock });
  const audit = createAudit({ db, inbox, clock, own: { acceptedBy: name, now: tally.now } });
  meter.follow(tally.now);
  const liveHistory = createLiveHistory({ slices: context.slices, clock });
  const liveStream: EventStream = createEventStream({ mostStreams: config.MAX_LIVE_STREAMS, onFirst: () => live.start(), onLast: () => live.stop() });
  const history = createHistory({ db: requestDb, live: liveHistory, clock });
  const statusOf = createStatus({ db: requestDb, inbox, files, redis, stream });
  const backlog = createBacklog({
    inbox, mostUploads: config.MAX_BACKLOG, mostBytes: config.MAX_BACKLOG_BYTES, lookEveryMs: config.INBOX === "s3" ? LOOK_AT_BUCKET_EVERY_MS : LOOK_AT_DISK_EVERY_MS,
  });
  await Promise.race([backlog.look(), new Promise((resolve) => setTimeout(resolve, 1_000))]);
  const admission = createAdmission({
    store: inbox.store, smallObjectBytes: config.SMALL_OBJECT_BYTES, backlog, mostUploads: config.MAX_CONCURRENT_UPLOADS,
    memoryBytes: config.UPLOAD_MEMORY_BYTES, minFreeBytes: config.MIN_FREE_BYTES, log,
  });
  const stores = createStoreWatch({ inbox: inbox.store, storage, spaceWarning: admission.spaceWarning });
  const figures = createLiveFigures({ db, redis, stream, counts, audit, history: liveHistory, workers, inbox: inbox.store, storage, stores, clock });
  const live: Live = createLive({ stream: liveStream, figures, files, ownerId: PUBLIC_ACCOUNT, log });
  const downloads = createDownloads({ mostDownloads: config.MAX_CONCURRENT_DOWNLOADS, log });
  const rates = createRateLimits({
    quotas: { address: config.ADDRESS_UPLOADS_PER_MINUTE, account: config.ACCOUNT_UPLOADS_PER_MINUTE },
    counters: createCounters(redis, config.REDIS_PREFIX),
  });
  const { finish } = createFinish({ inbox, partials, accept, smallObjectBytes: config.SMALL_OBJECT_BYTES, allowedTypes: config.ALLOWED_TYPES, clock });
  const resumable = createResumable({
    inbox, partials, finish, limitBytes: config.MAX_UPLOAD_BYTES, allowedTypes: config.ALLOWED_TYPES, secret: config.SECRET_KEY,
    expiryMs: config.RESUMABLE_EXPIRY_SECONDS * 1000, clock,
  });
  const door = createDoor({ accept, inbox, admission, rates, limitBytes: config.MAX_UPLOAD_BYTES });
  const acceptEvents = createAcceptEvents({
    redis, stream: eventsStream, spool, log,
    backlog: createEventBacklog({
      redis, stream: eventsStream, spool, mostStreamBytes: config.MAX_EVENT_BACKLOG_BYTES, mostSpoolBytes: config.MAX_EVENT_SPOOL_BYTES,
      lookEveryMs: config.INBOX === "s3" ? LOOK_AT_BUCKET_EVERY_MS : LOOK_AT_DISK_EVERY_MS,
    }),
  });
  const eventRates = createRateLimits({
    quotas: { events: config.ADDRESS_EVENTS_PER_MINUTE }, code: "TOO_MANY_REQUESTS", counters: createCounters(redis, config.REDIS_PREFIX),
  });
  const turnedAway = createTurnedAway({ clock, log });
  const eventDoor = createEventDoor({ acceptEvents, turnedAway, rates: eventRates, maxAgeDays: config.EVENT_MAX_AGE_DAYS ?? Math.min(MOST_EVENT_AGE_DAYS, config.EVENT_ROLLUP_RETENTION_DAYS ?? MOST_EVENT_AGE_DAYS), secret: config.SECRET_KEY, clock });
  const stats = createStats({ db: requestDb, rollupRetentionDays: config.EVENT_ROLLUP_RETENTION_DAYS, clock });
  const intake = createIntake({ redis, stream: eventsStream, spool, stats, acceptEvents, turnedAway, weighEveryMs: config.INBOX === "s3" ? LOOK_AT_BUCKET_EVERY_MS : LOOK_AT_DISK_EVERY_MS, clock });
  const { loopDelay, stop: stopWatching } = watchLoopDelay();
  const app = createApp({
    viewsFolder: join(ROOT, "views"),
    publicFolder: join(ROOT, "public"),
    packagesFolder: join(ROOT, "node_modules"),
    trustProxyHops: config.TRUST_PROXY,
    locals: format,
    routers: [
      (req, res, next) => {
        if (!stopping) return next();
        res.setHeader("Connection", "close"); // a kept-alive connection in use would keep the server from closing
        if (req.path === "/ready" || req.path === "/health") return next();
        if (req.method === "HEAD" && req.path.startsWith(UPLOADS_PATH)) throw new Failure("UPLOAD_IN_USE"); // 503 would have tus clients begin anew
        throw new Failure("SHUTTING_DOWN");
      },
      ...createEventsRouters({ door: eventDoor, origins: config.EVENT_ORIGINS, log }), // an event has less to do than an upload, so it pays more for each step
      authenticate,
      createUploadsRouter({ door, statusOf, counts, audit }),
      createTusRouter({ resumable, accept, inbox, admission, rates, limitBytes: config.MAX_UPLOAD_BYTES }),
      createStatsRouter({ stats, intake }),
      createFilesRouter({ files, downloads }),
      createLiveRouter({ live, stream: liveStream, history }),
      createDeadLettersRouter({ deadLetters }),
      createHealthRouter({ context, ledger: () => ledger, stopping: () => stopping, spaceWarning: admission.spaceWarning, loopDelay }),
      createOpenApiRouter(),
      createPagesRouter({ door, statusOf, live, files, limitBytes: config.MAX_UPLOAD_BYTES, allowedTypes: config.ALLOWED_TYPES }),
      createDeadLetterPagesRouter({ deadLetters }),
      createAnalyticsPagesRouter({ stats, intake, door: eventDoor, clock }),
      createTrackerRouter(join(ROOT, "public", "tracker.js")),
    ],
    ...createAnswerErrors(log),
  });
  const server = createHttpServer({
    app, idleMs: config.UPLOAD_IDLE_SECONDS * 1000, leastBytesPerSecond: config.UPLOAD_MIN_BYTES_PER_SECOND,
    leastAnswerBytesPerSecond: config.DOWNLOAD_MIN_BYTES_PER_SECOND, behindProxy: config.TRUST_PROXY > 0,
  });
  await listen(server, config.HOST, config.PORT);
  const url = () => urlOf(server, config.HOST);
  log.info({ url: url(), ledger }, "listening");

  return {
    name: "site",
    server,
    underWay: admission.underWay,
    downloadsUnderWay: downloads.underWay,
    live: () => ({ ...liveStream.counted(), streams: liveStream.count(), reads: live.reads() }),
    tallied: tally.now,
    url,
    /** The door closes, what is being received is finished, idle connections go. */
    async stop() {
      if (stopping) return;
      stopping = true;
      counts.stop();
      liveStream.close();
      resumable.stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // A connection whose upload has just been finished is idle only then, and its client would keep it.
      const closing = setInterval(() => {
        server.closeIdleConnections();
        closeUnused(server);
      }, CLOSE_IDLE_EVERY_MS);
      server.closeIdleConnections();
      await closed;
      clearInterval(closing);
      stopWatching();
      rates.stop();
      eventRates.stop();
      backlog.stop();
      await tally.close();
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EADDRINUSE") return reject(error);
      reject(new Error(`Port ${port} on ${host} is in use. Choose another: PORT=${port + 1}`, { cause: error }));
    });
    server.listen({ port, host, backlog: 1024 }, () => resolve());
  });
}

function urlOf(server: Server, host: string): string {
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  return `http://${host.includes(":") ? `[${host}]` : host === "0.0.0.0" ? "127.0.0.1" : host}:${port}`;
}
