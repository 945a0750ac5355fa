import { percentile } from "../arithmetic.ts";
import { openClient, type Client } from "./client.ts";
import type { Expectation, Job, JobResult, RequestShape, Stretch } from "./job.ts";
import { prepareRequest, type PreparedRequest } from "./request.ts";

const MAX_FAILURES = 100; // a cell with one failure is void already; there is no use in going on
const MAX_REASONS = 5;

interface Progress {
  answered: number;
  failures: number;
  reasons: string[];
}

/**
 * A closed loop, in which each client sends its next request when the former was answered, or an open one with a pace.
 * What is in flight when the stretch is over is waited for; a closed loop does not count it.
 * @param onMark  called right before and right after the measured stretch, so that others can read their clocks too
 */
export async function runJob(job: Job, onMark: (mark: "measuring" | "measured") => void): Promise<JobResult> {
  const host = `127.0.0.1:${job.port}`;
  const open = (expect: Expectation) => Array.from({ length: job.clients }, () => openClient(job.port, expect));
  const prepare = (shape: RequestShape) => Array.from({ length: job.clients }, (_, client) => prepareRequest(shape, host, client));
  const clients = open(job.expect);
  const requests = prepare(job.request); // before any clock runs: lists of events take a while to write
  const progress: Progress = { answered: 0, failures: 0, reasons: [] };
  try {
    if (job.warmUpBytes === undefined) {
      await runStretch({ clients, requests, stretch: job.warmUp, pacePerSecond: job.pacePerSecond, progress });
    } else {
      // Another size is another expected text ("size":…): the warm-up then trusts the status alone.
      const warmUpClients = open({ status: job.expect.status });
      const warmUpRequests = prepare({ ...job.request, sizeBytes: job.warmUpBytes });
      await runStretch({ clients: warmUpClients, requests: warmUpRequests, stretch: job.warmUp, pacePerSecond: job.pacePerSecond, progress });
      for (const client of warmUpClients) client.close();
    }

    onMark("measuring");
    const cpuBefore = process.cpuUsage();
    const measured = await runStretch({
      clients, requests, stretch: job.measure, pacePerSecond: job.pacePerSecond, progress, onOver: () => onMark("measured"),
    });
    return summarize(measured, progress, measured.cpuMicros(cpuBefore));
  } finally {
    for (const client of clients) client.close();
  }
}

interface Stretched {
  latenciesMs: number[];
  /** Answered before it was over. */
  requests: number;
  elapsedMs: number;
  cpuMicros(before: NodeJS.CpuUsage): number;
}

function runStretch({ clients, requests, stretch, pacePerSecond, progress, onOver = () => {} }: {
  clients: readonly Client[];
  /** One for each client. */
  requests: readonly PreparedRequest[];
  stretch: Stretch;
  pacePerSecond: number | undefined;
  progress: Progress;
  onOver?: () => void;
}): Promise<Stretched> {
  const latenciesMs: number[] = [];
  const limit = "requests" in stretch ? stretch.requests : Number.POSITIVE_INFINITY;
  const startedAt = performance.now();
  let inTime = 0;
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
      resolve({ latenciesMs, requests: inTime, elapsedMs, cpuMicros });
    }

    const isFull = (): boolean => started >= limit || progress.failures >= MAX_FAILURES;

    function send(client: number, since: number, then: (client: number) => void): void {
      started++;
      clients[client]!.send(requests[client]!, (failure) => {
        if (failure === undefined) {
          progress.answered++;
          if (!over) inTime++;
          if (!over || pacePerSecond !== undefined) latenciesMs.push(performance.now() - since);
          then(client);
        } else {
          progress.failures++;
          if (progress.reasons.length < MAX_REASONS) progress.reasons.push(failure);
          setImmediate(then, client); // a failing connection must not recurse into itself within one turn
        }
      });
    }

    function next(client: number): void {
      if (over || isFull()) {
        running--;
        if (running === 0) finish();
      } else {
        send(client, performance.now(), next);
      }
    }

    function keepPace(perSecond: number): void {
      const idle = clients.map((_, client) => client);
      const timer = setInterval(turn, 1);
      function turn(): void {
        const due = Math.min((((over ? elapsedMs : performance.now() - startedAt)) / 1000) * perSecond, limit);
        while (idle.length > 0 && started + 1 <= due && !isFull()) {
          send(idle.pop()!, startedAt + ((started + 1) / perSecond) * 1000, (client) => {
            idle.push(client);
            turn();
          });
        }
        if (isFull() || (over && started + 1 > due)) {
          clearInterval(timer);
          if (idle.length === clients.length) finish();
        }
      }
    }

    if ("forMs" in stretch) setTimeout(end, stretch.forMs);
    if (pacePerSecond !== undefined) return keepPace(pacePerSecond);
    running = clients.length;
    for (let client = 0; client < clients.length; client++) next(client);
  });
}

function summarize(measured: Stretched, progress: Progress, cpuMicros: number): JobResult {
  const sorted = Float64Array.from(measured.latenciesMs).toSorted();
  return {
    requests: measured.requests,
    elapsedMs: measured.elapsedMs,
    perSecond: (measured.requests / measured.elapsedMs) * 1000,
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
