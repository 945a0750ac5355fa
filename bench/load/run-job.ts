import { percentile } from "../arithmetic.ts";
import { openClient, type Client } from "./client.ts";
import type { Job, JobResult, Stretch } from "./job.ts";
import { prepareRequest, type PreparedRequest } from "./request.ts";

const MAX_FAILURES = 100; // a cell with one failure is void already; there is no use in going on
const MAX_REASONS = 5;

interface Progress {
  answered: number;
  failures: number;
  reasons: string[];
}

/**
 * A closed loop: each client sends its next request when the former was answered. What is in flight when the
 * stretch is over is waited for but not counted.
 * @param onMark  called right before and right after the measured stretch, so that others can read their clocks too
 */
export async function runJob(job: Job, onMark: (mark: "measuring" | "measured") => void): Promise<JobResult> {
  const host = `127.0.0.1:${job.port}`;
  const clients = Array.from({ length: job.clients }, () => openClient(job.port, job.expect));
  const progress: Progress = { answered: 0, failures: 0, reasons: [] };
  try {
    const warmUpShape = { ...job.request, sizeBytes: job.warmUpBytes ?? job.request.sizeBytes };
    // Another size is another expected text ("size":…): the warm-up then trusts the status alone.
    const warmUpClients =
      job.warmUpBytes === undefined
        ? clients
        : clients.map(() => openClient(job.port, { status: job.expect.status }));
    await runStretch(warmUpClients, job.warmUp, progress, () => prepareRequest(warmUpShape, host));
    if (warmUpClients !== clients) for (const client of warmUpClients) client.close();

    onMark("measuring");
    const cpuBefore = process.cpuUsage();
    const measured = await runStretch(clients, job.measure, progress, () => prepareRequest(job.request, host), () =>
      onMark("measured"),
    );
    return summarize(measured, progress, measured.cpuMicros(cpuBefore));
  } finally {
    for (const client of clients) client.close();
  }
}

interface Stretched {
  latenciesMs: number[];
  elapsedMs: number;
  cpuMicros(before: NodeJS.CpuUsage): number;
}

function runStretch(
  clients: readonly Client[],
  stretch: Stretch,
  progress: Progress,
  prepare: () => PreparedRequest,
  onOver: () => void = () => {},
): Promise<Stretched> {
  const latenciesMs: number[] = [];
  const limit = "requests" in stretch ? stretch.requests : Number.POSITIVE_INFINITY;
  const startedAt = performance.now();
  let started = 0;
  let running = 0;
  let over = false;
  let elapsedMs = 0;
  let cpuAtEnd = process.cpuUsage();

  return new Promise((resolve) => {
    function end(): void {
      if (over) return;
      over = true;
      elapsedMs = performance.now() - startedAt;
      cpuAtEnd = process.cpuUsage();
      onOver();
    }

    function finish(): void {
      end();
      const cpuMicros = (before: NodeJS.CpuUsage): number =>
        cpuAtEnd.user - before.user + cpuAtEnd.system - before.system;
      resolve({ latenciesMs, elapsedMs, cpuMicros });
    }

    function next(client: Client, request: PreparedRequest): void {
      if (over || started >= limit || progress.failures >= MAX_FAILURES) {
        running--;
        if (running === 0) finish();
        return;
      }
      started++;
      const sentAt = performance.now();
      client.send(request, (failure) => {
        if (failure === undefined) {
          progress.answered++;
          if (!over) latenciesMs.push(performance.now() - sentAt);
        } else {
          progress.failures++;
          if (progress.reasons.length < MAX_REASONS) progress.reasons.push(failure);
        }
        // A failing connection must not recurse into itself within one turn.
        if (failure === undefined) next(client, request);
        else setImmediate(next, client, request);
      });
    }

    if ("forMs" in stretch) setTimeout(end, stretch.forMs);
    running = clients.length;
    for (const client of clients) next(client, prepare());
  });
}

function summarize(measured: Stretched, progress: Progress, cpuMicros: number): JobResult {
  const sorted = Float64Array.from(measured.latenciesMs).toSorted();
  return {
    requests: sorted.length,
    elapsedMs: measured.elapsedMs,
    perSecond: (sorted.length / measured.elapsedMs) * 1000,
    p50Ms: percentile(sorted, 50),
    p90Ms: percentile(sorted, 90),
    p99Ms: percentile(sorted, 99),
    maxMs: percentile(sorted, 100),
    answered: progress.answered,
    failures: progress.failures,
    reasons: progress.reasons,
    generatorCores: cpuMicros / 1000 / measured.elapsedMs,
  };
}
