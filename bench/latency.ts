/** How long after its 202 is an upload in the ledger, when nothing else is going on? */
import { Agent, request } from "node:http";
import { randomBytes } from "node:crypto";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { percentile } from "./arithmetic.ts";
import type { Hub } from "./hub.ts";
import type { Ledger } from "./ledger.ts";
import { onFreshHub, UPLOAD_BYTES, type WorkerTools } from "./worker.ts";

const INTERVAL_MS = 50;
const UPLOADS = 200;
const WARM_UPS = 20;
const POLL_MS = 1;
const GIVE_UP_AFTER_MS = 10_000;

export interface Latencies {
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

export interface LatencyRound {
  uploads: number;
  /** From the first byte of the request to the 202. */
  accept: Latencies;
  /** From the ledger's event_time (fixed before the bytes are durable) to the row being visible to another client. */
  toLedger: Latencies;
  /** From the 202 in the client's hands to the same. */
  afterAnswer: Latencies;
  /** What the ledger says itself: settled_at - event_time. */
  recorded: Latencies;
}

export async function measureLatency(
  tools: Pick<WorkerTools, "backends" | "options" | "logs" | "profiles" | "say" | "problem">,
): Promise<LatencyRound[]> {
  const rounds: LatencyRound[] = [];
  for (let round = 1; round <= tools.options.rounds; round++) {
    const measured = await onFreshHub(tools, (hub, ledger, folder) =>
      measureRound(hub, ledger, folder, tools.options.quick ? UPLOADS / 4 : UPLOADS),
    ).catch((error: Error) => tools.problem(`latency, round ${round}: ${error.message}`));
    if (measured === undefined) continue;
    tools.say(`round ${round}: to the ledger p50 ${measured.toLedger.p50Ms.toFixed(1)} ms, p99 ${measured.toLedger.p99Ms.toFixed(1)} ms`);
    rounds.push(measured);
  }
  return rounds;
}

async function measureRound(hub: Hub, ledger: Ledger, folder: string, uploads: number): Promise<LatencyRound> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const web = await hub.startWeb(folder, "idle");
  const worker = await hub.startWorker(folder, "idle");
  try {
    for (let sent = 0; sent < WARM_UPS; sent++) await follow(agent, web.port, ledger);
    const warmSince = new Date();
    const timings: Timing[] = [];
    for (let sent = 0; sent < uploads; sent++) {
      const next = performance.now() + INTERVAL_MS;
      timings.push(await follow(agent, web.port, ledger));
      await sleep(Math.max(0, next - performance.now()));
    }
    return {
      uploads,
      accept: summarize(timings.map((timing) => timing.acceptMs)),
      toLedger: summarize(timings.map((timing) => timing.toLedgerMs)),
      afterAnswer: summarize(timings.map((timing) => timing.afterAnswerMs)),
      recorded: summarize(await ledger.settleMs(warmSince)),
    };
  } finally {
    agent.destroy();
    await web.stop();
    await worker.stop();
  }
}

interface Timing {
  acceptMs: number;
  toLedgerMs: number;
  afterAnswerMs: number;
}

async function follow(agent: Agent, port: number, ledger: Ledger): Promise<Timing> {
  const startedAt = performance.now();
  const fileId = await put(agent, port);
  const answeredAt = performance.now();
  for (;;) {
    const eventTime = await ledger.eventTimeOf(fileId);
    const now = performance.now();
    if (eventTime !== undefined) {
      return {
        acceptMs: answeredAt - startedAt,
        toLedgerMs: Date.now() - eventTime.getTime(), // two processes: only the wall clock is common, 1 ms steps
        afterAnswerMs: now - answeredAt,
      };
    }
    if (now - answeredAt > GIVE_UP_AFTER_MS) throw new Error(`the ledger has not seen an upload after ${GIVE_UP_AFTER_MS} ms`);
    await sleep(POLL_MS);
  }
}

async function put(agent: Agent, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request({ agent, port, host: "127.0.0.1", method: "PUT", path: "/api/upload/bench.bin" }, (res) => {
      text(res).then((body) => {
        if (res.statusCode !== 202) throw new Error(`status ${res.statusCode}: ${body}`);
        resolve((JSON.parse(body) as { file_id: string }).file_id);
      }).catch(reject);
    });
    req.on("error", reject);
    req.end(randomBytes(UPLOAD_BYTES));
  });
}

function summarize(values: number[]): Latencies {
  const sorted = values.toSorted((a, b) => a - b);
  return { p50Ms: percentile(sorted, 50), p99Ms: percentile(sorted, 99), maxMs: percentile(sorted, 100) };
}
