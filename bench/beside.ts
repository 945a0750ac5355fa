import { difference } from "./arithmetic.ts";
import type { Backends } from "./backends.ts";
import { postShape, putShape, type Hub } from "./hub.ts";
import type { Ledger } from "./ledger.ts";
import type { Generator } from "./load/generator.ts";
import { watchProcess, type Watch } from "./procfs.ts";
import { followBacklog } from "./settling.ts";

const UPLOAD_BYTES = 1024;
const CLIENTS = 64;
const WARM_UP_MS = 2_000;
const MEASURED_MS = 10_000;

/** The door at full speed and the worker at once, on the same cores. */
export interface Beside {
  door: "PUT" | "POST";
  acceptedPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** In the same ten seconds. */
  settledPerSecond: number;
  /** Entries in the stream when they were over. */
  backlog: number;
  /** How long the worker took for the rest, milliseconds. */
  catchUpMs: number;
  webCpuMs: number | undefined;
  workerCpuMs: number | undefined;
  redisCpuMs: number | undefined;
  postgresCpuMs: number | undefined;
  webAnonymousBytes: number | undefined;
  workerAnonymousBytes: number | undefined;
  failure: string | undefined;
}

interface Reading {
  at: number;
  records: number;
  backlog: number;
  redisCpuMs: number | undefined;
  postgresCpuMs: number | undefined;
}

export async function measureBeside({ door, hub, ledger, folder, backends, generator, quick }: {
  door: "PUT" | "POST";
  hub: Hub;
  ledger: Ledger;
  folder: string;
  backends: Backends;
  generator: Generator;
  quick: boolean;
}): Promise<Beside> {
  async function read(): Promise<Reading> {
    const cpu = { redisCpuMs: backends.redisCpuMs(), postgresCpuMs: backends.postgresCpuMs() };
    const [records, backlog] = await Promise.all([ledger.records(), backends.redis.xlen(backends.stream)]);
    return { at: performance.now(), records, backlog, ...cpu };
  }

  const web = await hub.startWeb(folder, `beside-${door}`);
  const worker = await hub.startWorker(folder, `beside-${door}`);
  const watches = { web: watchProcess(web.pid), worker: watchProcess(worker.pid) };
  const readings: Promise<Reading>[] = [];
  const shape = door === "PUT" ? putShape : postShape;
  let watched: { web: Watch; worker: Watch } | undefined;
  try {
    const job = {
      port: web.port,
      clients: CLIENTS,
      request: shape(UPLOAD_BYTES),
      expect: { status: 202, text: `"size":${UPLOAD_BYTES}` },
    };
    // Until the worker has settled something it is still starting, and would catch up while it is measured.
    const first = await generator.run({ ...job, warmUp: { requests: 0 }, measure: { requests: CLIENTS } });
    await followBacklog({ ledger, backends, until: first.answered });
    const accepted = await generator.run({
      ...job,
      warmUp: { forMs: quick ? 500 : WARM_UP_MS },
      measure: { forMs: quick ? 2_000 : MEASURED_MS },
    }, {
      onMeasuring() {
        for (const watch of Object.values(watches)) watch.begin();
        readings.push(read());
      },
      onMeasured() {
        for (const watch of Object.values(watches)) watch.end();
        readings.push(read());
      },
    });
    const catchingUpSince = performance.now();
    const rest = await followBacklog({ ledger, backends, until: first.answered + accepted.answered });
    watched = { web: watches.web.stop(), worker: watches.worker.stop() };
    const [before, after] = (await Promise.all(readings)) as [Reading, Reading];
    const answered = first.answered + accepted.answered;
    const exactly = await ledger.countExactly();
    const each = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / accepted.requests);
    return {
      door,
      acceptedPerSecond: accepted.perSecond,
      p50Ms: accepted.p50Ms,
      p99Ms: accepted.p99Ms,
      settledPerSecond: ((after.records - before.records) / (after.at - before.at)) * 1000,
      backlog: after.backlog,
      catchUpMs: rest.endedAt - catchingUpSince,
      webCpuMs: each(watched.web.cpuMs),
      workerCpuMs: each(watched.worker.cpuMs),
      redisCpuMs: each(difference(after.redisCpuMs, before.redisCpuMs)),
      postgresCpuMs: each(difference(after.postgresCpuMs, before.postgresCpuMs)),
      webAnonymousBytes: watched.web.peakAnonymousBytes,
      workerAnonymousBytes: watched.worker.peakAnonymousBytes,
      failure: accepted.failures > 0 ? accepted.reasons.join("; ")
        : rest.failure ?? (exactly.rows === answered && exactly.files === answered ? undefined
          : `${answered} accepted, ${exactly.rows} rows of ${exactly.files} files in the ledger`),
    };
  } finally {
    if (watched === undefined) for (const watch of Object.values(watches)) watch.stop();
    await web.stop();
    await worker.stop();
  }
}
