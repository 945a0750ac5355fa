import type { Redis } from "ioredis";
import type { Clock } from "../../core/clock.ts";
import { Unavailable } from "../../core/errors.ts";
import { orNull } from "../../core/or-null.ts";
import { readJson } from "../../core/read-json.ts";
import { within } from "../../core/within.ts";
import type { Db } from "../../db/pool.ts";
import { knowsItsDisk, type ObjectStore } from "../../objects/object-store.ts";
import { oldestAgeMs } from "../../stream/backlog.ts";
import type { Presence } from "../../stream/presence.ts";
import { describeAudit, type AuditReader } from "../audit/audit.ts";
import { describeCounts, type CountsReader } from "../counts.ts";
import * as queries from "./history-queries.ts";
import { describePoints, type LiveHistory } from "./live-history.ts";
import type { StoreWatch } from "./store-watch.ts";
import { WorkerReport } from "./worker-report.ts";

export interface LiveFiguresSettings {
  db: Db;
  redis: Redis;
  stream: string;
  counts: CountsReader;
  audit: AuditReader;
  history: LiveHistory;
  workers: Pick<Presence, "read">;
  inbox: ObjectStore;
  storage: ObjectStore;
  stores: Pick<StoreWatch, "look">;
  clock: Clock;
}

/** Beyond it the exact number of what is tried again matters to nobody, and would have to be counted. */
const MOST_RETRYING = 1_000;
const DATABASE_BUDGET_MS = 3_000;
const AUDIT_BUDGET_MS = 1_000;
/** With the oldest entry older than this, and nobody alive to settle it, somebody should know. */
const UNATTENDED_SECONDS = 30;
const LATELY_MS = 30_000; // points told with each figures: what a page may have missed

export type LiveFigures = ReturnType<typeof createLiveFigures>;
export type Figures = Awaited<ReturnType<LiveFigures["read"]>>;

/**
 * All that the dashboard shows of the system as a whole, in the words of the API. Nothing is counted on demand, and each
 * figure is null where what knows it does not answer: Redis (queue, rates, workers), the database (ledger, failures).
 */
export function createLiveFigures({ db, redis, stream, counts, audit, history, workers, inbox, storage, stores, clock }: LiveFiguresSettings) {
  let audited: ReturnType<typeof describeAudit> | null = null;
  let auditing: Promise<void> | undefined;

  async function read() {
    const [counted, oldestMs, latest, alive, retrying, { away, spaceWarning }] = await Promise.all([
      counts.counts(),
      orNull(oldestAgeMs(redis, stream).then((ms) => ms ?? null)),
      orNull(history.refresh().then(() => history)),
      orNull(readWorkers()),
      orNull(within(DATABASE_BUDGET_MS, "postgres", queries.countRetrying(db, MOST_RETRYING))),
      stores.look(),
      orNull(within(AUDIT_BUDGET_MS, "inbox", readAudit())), // later than that: the last one known, which says of when it is
    ]);
    if (!latest) history.forget();
    const rates = history.rates();
    const recent = history.recent();
    const oldestSeconds = oldestMs === null ? null : seconds(oldestMs);
    const described = describeCounts(counted);
    return {
      ...described,
      degraded: [...described.degraded, ...away],
      space_warning: spaceWarning,
      queue: { entries: counted.redis, oldest_seconds: oldestSeconds },
      accepted_per_second: rates.accepted,
      settled_per_second: rates.settled,
      bytes_per_second: rates.acceptedBytes,
      latency_ms: { p50: recent[0.5], p95: recent[0.95], p99: recent[0.99] },
      failures: { recent: recent.failed, retrying, dead_letters: counted.deadLetters },
      workers: alive,
      unattended: alive?.length === 0 && oldestSeconds !== null && oldestSeconds > UNATTENDED_SECONDS,
      all_paused_by: pausedBy(alive ?? []),
      storage: { kind: storage.kind, used_bytes: counted.storedBytes, free_bytes: freeBytes(storage) },
      inbox: { kind: inbox.kind, free_bytes: freeBytes(inbox) },
      audit: audited,
      lately: describePoints(history.last(LATELY_MS)),
    };
  }

  function readAudit(): Promise<void> {
    return (auditing ??= orNull(audit.latest()).then((latest) => void (audited = latest && describeAudit(latest))).finally(() => (auditing = undefined)));
  }

  async function readWorkers() {
    const now = clock.now().getTime();
    return [...await workers.read()].flatMap(([name, said]) => {
      const data = readJson(WorkerReport, said);
      return data ? [{ name, ...data, up_seconds: seconds(Math.max(0, now - Date.parse(data.started_at))) }] : [];
    });
  }

  return { read };
}

/** What the workers wait for, where all of them do; with one at work uploads go on. */
function pausedBy(workers: readonly WorkerReport[]): string[] {
  if (workers.some(({ state }) => state !== "paused")) return [];
  return [...new Set(workers.map(({ because }) => because ?? "error"))].sort();
}

/** Of the disk that a store is on; a bucket has no end that anybody knows. */
function freeBytes(store: ObjectStore): number | null {
  try {
    return knowsItsDisk(store) ? store.room().freeBytes : null;
  } catch (error) {
    if (error instanceof Unavailable) return null;
    throw error;
  }
}

function seconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}
