import { Router, type RequestHandler } from "express";
import type { LoopDelay } from "../core/loop-delay.ts";
import { within } from "../core/within.ts";
import { command } from "../stream/redis.ts";
import { allow, sendJson } from "../http/answer-errors.ts";
import type { TimeSeriesKind } from "../db/time-series.ts";
import type { Context } from "./context.ts";

const PROBE_TIMEOUT_MS = 2_000;

/** What it costs to be without each of them. The door is shut only without the inbox. */
const WITHOUT = {
  inbox: "no upload can be accepted",
  redis: "uploads are accepted and wait in the inbox; the worker settles them when it is back",
  postgres: "uploads are accepted and wait in the inbox; lists, downloads of stored files and counts do not work",
  storage: "uploads are accepted and wait in the inbox; stored files cannot be downloaded",
} as const;

interface Probe {
  ok: boolean;
  latency_ms: number;
  error?: string;
  /** It answers, but is not as it should be. */
  warning?: string;
  without: string;
}

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
      sendJson(res, ready ? 200 : 503, { ready, stopping: stopping(), ledger: ledger(), dependencies: { inbox, redis, postgres, storage } });
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}

/** @param inspect  asked at the same time; what it finds wrong is a warning */
async function probe(name: keyof typeof WITHOUT, ask: () => Promise<unknown>, inspect = async (): Promise<string | undefined> => undefined): Promise<Probe> {
  const startedAt = performance.now();
  let error: string | undefined, warning: string | undefined;
  try {
    [, warning] = await within(PROBE_TIMEOUT_MS, name, Promise.all([ask(), inspect()]));
  } catch (cause) {
    error = cause instanceof Error ? cause.message : String(cause);
  }
  const latency_ms = Math.round((performance.now() - startedAt) * 10) / 10;
  return { ok: error === undefined, latency_ms, ...(error !== undefined && { error }), ...(warning !== undefined && { warning }), without: WITHOUT[name] };
}
