import { Router, type RequestHandler } from "express";
import type { LoopDelay } from "../core/loop-delay.ts";
import { probe, type Probed } from "../core/probe.ts";
import { command } from "../stream/redis.ts";
import { allow, sendJson } from "../http/answer-errors.ts";
import type { TimeSeriesKind } from "../db/time-series.ts";
import type { Context } from "./context.ts";

/** What it costs to be without each of them. The door is shut only without the inbox. */
const WITHOUT = {
  inbox: "no upload can be accepted; events are, while Redis is there",
  redis: "uploads are accepted and wait in the inbox; the worker settles them when it is back; events wait there too, until the worker counts them",
  postgres: "uploads are accepted and wait in the inbox, events in Redis; lists, downloads of stored files, counts and figures do not work",
  storage: "uploads are accepted and wait in the inbox; stored files cannot be downloaded",
} as const;

export interface HealthSettings {
  context: Context;
  ledger: () => TimeSeriesKind | null;
  stopping: () => boolean;
  /** In a sentence. @throws Unavailable */
  spaceWarning: () => string | undefined;
  /** Milliseconds. */
  loopDelay: () => LoopDelay;
}

/** GET /health: this process answers. GET /ready: it can do its job, dependency by dependency. */
export function createHealthRouter({ context, ledger, stopping, spaceWarning, loopDelay }: HealthSettings): Router {
  const router = Router();

  router.route("/health")
    .get((_req, res) => sendJson(res, 200, { status: "ok", uptime_seconds: Math.round(process.uptime()), event_loop_delay_ms: loopDelay() }))
    .all(allow("GET", "HEAD"));

  router.route("/ready")
    .get((async (_req, res) => {
      const [inbox, redis, postgres, storage] = await Promise.all([
        probe("inbox", () => context.inbox.store.ping(), async () => spaceWarning()),
        probe("redis", () => command(context.redis.ping()), () => context.eviction.check()),
        probe("postgres", () => context.db.query("select count(*) from schema_migrations")),
        probe("storage", () => context.storage.ping()),
      ]);
      const ready = inbox.ok && !stopping();
      sendJson(res, ready ? 200 : 503, { ready, stopping: stopping(), ledger: ledger(), dependencies: {
        inbox: told("inbox", inbox), redis: told("redis", redis), postgres: told("postgres", postgres), storage: told("storage", storage),
      } });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}

function told(name: keyof typeof WITHOUT, probed: Probed) {
  return { ...probed, without: WITHOUT[name] };
}
