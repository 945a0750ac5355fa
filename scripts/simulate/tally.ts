import { createDistribution, type Distribution } from "./statistics.ts";
import { createTimeline } from "./timeline.ts";

/** What a person waits for: the page until it can be used, the receipt from choosing on, the ledger from the receipt on. */
export const STEPS = ["page", "upload", "stored"] as const;
export type Step = (typeof STEPS)[number];

export const ERROR_KINDS = {
  page: "the page did not load",
  refused: "refused by the site",
  network: "the connection failed",
  timeout: "took too long",
  "no receipt": "answered, but with no receipt",
  "wrong hash": "the ledger has other bytes than were sent",
  "dead letter": "received, but could not be stored",
  browser: "the browser or its page crashed",
  script: "a script of the page failed",
  "never started": "an arrival that never got its turn",
  unexpected: "a fault of the simulation itself",
} as const;
export type ErrorKind = keyof typeof ERROR_KINDS;

export interface Trouble {
  kind: ErrorKind;
  /** The site's sentence and code, or the system's. */
  detail: string;
}

/** What is found out about an upload whose receipt is there, or about none. */
const NO_ATTEMPT_ENDS_BY: readonly ErrorKind[] = ["dead letter", "wrong hash", "script"];
/** Of one kind; whatever else is said counts as "other". */
const MOST_DETAILS = 20;

export type Tally = ReturnType<typeof createTally>;

/** Counts everything that happens, from its creation on. Memory is bounded, however long it runs. */
export function createTally(now: () => number = () => performance.now()) {
  let startedAt = now();
  const steps = Object.fromEntries(STEPS.map((step) => [step, createDistribution()])) as Record<Step, Distribution>;
  const lateness = createDistribution();
  const timeline = createTimeline();
  const errors = new Map<ErrorKind, { count: number; details: Map<string, number> }>();
  const retries = new Map<string, number>();
  const counts = { attempted: 0, received: 0, unreceived: 0, bytes: 0, errors: 0, arrivals: 0, visits: 0, activeUsers: 0, mostActiveUsers: 0 };
  let endedAt: number | undefined;
  const elapsedMs = () => (endedAt ?? now()) - startedAt;

  return {
    counts, steps, lateness, timeline, errors, retries, elapsedMs,
    /** Of the load: what was opened before it, such as a browser, does not count. */
    begin() {
      startedAt = now();
    },
    /** Of the load; later on receipts are still looked up. */
    end() {
      endedAt ??= now();
    },
    enter() {
      counts.mostActiveUsers = Math.max(counts.mostActiveUsers, ++counts.activeUsers);
    },
    leave() {
      counts.activeUsers--;
    },
    underWay: () => counts.attempted - counts.received - counts.unreceived,
    /** Each of the files ends in received() or failed(), unless the run is stopped before. */
    attempt(files: number) {
      counts.attempted += files;
      counts.visits++;
    },
    step(step: Step, ms: number) {
      steps[step].add(Math.max(0, ms));
    },
    received(sizeBytes: number, uploadMs: number) {
      counts.received++;
      counts.bytes += sizeBytes;
      steps.upload.add(Math.max(0, uploadMs));
      const stretch = timeline.at(now() - startedAt);
      stretch.received++;
      stretch.bytes += sizeBytes;
      stretch.uploadMs.add(Math.max(0, uploadMs));
    },
    stored(storedMs: number) {
      steps.stored.add(Math.max(0, storedMs));
      timeline.at(now() - startedAt).stored++;
    },
    failed({ kind, detail }: Trouble, times = 1) {
      counts.errors += times;
      if (!NO_ATTEMPT_ENDS_BY.includes(kind)) counts.unreceived += times;
      const known = errors.get(kind) ?? { count: 0, details: new Map<string, number>() };
      known.count += times;
      const worded = known.details.has(detail) || known.details.size < MOST_DETAILS ? detail : "other";
      known.details.set(worded, (known.details.get(worded) ?? 0) + times);
      errors.set(kind, known);
      timeline.at(now() - startedAt).errors += times;
    },
    /** Told to come again, and came again: no error, but somebody waited. */
    retried(why: string) {
      retries.set(why, (retries.get(why) ?? 0) + 1);
    },
  };
}
