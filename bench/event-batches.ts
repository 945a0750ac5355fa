/** How many events a second go from POST /events to figures, with all that takes part on the same cores, and how fast is COPY of the same rows? */
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { difference } from "./arithmetic.ts";
import { openEventFigures, type EventFigures } from "./event-figures.ts";
import type { Hub } from "./hub.ts";
import { measureCopy, writeEventsFile } from "./limits/copy.ts";
import type { Job, JobResult } from "./load/job.ts";
import { watchProcess, type Watch } from "./procfs.ts";
import { untilEmpty } from "./settling.ts";
import { onFreshHub, type WorkerTools } from "./worker.ts";

const BATCHES = [100, 1_000] as const;
const CLIENTS = 16;
const WARM_UP_EVENTS = 200_000;
const EVENTS = 1_000_000; // their backlog stays well below MAX_EVENT_BACKLOG_BYTES, at which the door would close
const QUICK_EVENTS = 50_000;
const POLL_MS = 50;
const GIVE_UP_AFTER_MS = 60_000; // without any progress
const runFile = promisify(execFile);

/** One turn: events are sent, as fast as they are taken, until the last one of them is a figure. */
export interface BatchRun {
  batch: number;
  withIds: boolean;
  /** Acknowledged. */
  events: number;
  /** While they were sent. */
  acceptedPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** All of them, over the time from the first request until the last event was visible to another client. */
  visiblePerSecond: number;
  /** From the last answer until then. */
  catchUpMs: number;
  /** A thousand events. */
  webCpuMs: number | undefined;
  workerCpuMs: number | undefined;
  redisCpuMs: number | undefined;
  postgresCpuMs: number | undefined;
  generatorCores: number;
  webAnonymousBytes: number | undefined;
  workerAnonymousBytes: number | undefined;
  /** Rows a second of the same rows, from a file. */
  copyPerSecond: number | undefined;
  failure: string | undefined;
}

export async function measureEventBatches(tools: WorkerTools): Promise<BatchRun[]> {
  const { options, say, problem } = tools;
  const runs: BatchRun[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const withIds of [false, true]) {
      for (const batch of BATCHES) {
        const name = `batches of ${batch}${withIds ? ", with ids" : ""}, round ${round}`;
        const run = await measureRun(tools, batch, withIds).catch((error: Error) => problem(`events, ${name}: ${error.message}`));
        if (run === undefined) continue;
        say(`${name}: ${run.failure === undefined ? `${run.visiblePerSecond.toFixed(0)}/s visible (${run.acceptedPerSecond.toFixed(0)}/s accepted), `
          + `COPY ${run.copyPerSecond?.toFixed(0)}/s` : `FAILED: ${run.failure}`}`);
        runs.push(run);
      }
    }
  }
  return runs;
}

async function measureRun(tools: WorkerTools, batch: number, withIds: boolean): Promise<BatchRun> {
  const file = join(tools.options.dir, "events.copy");
  try {
    const run = await onFreshHub(tools, async (hub, ledger, folder) => {
      const figures = openEventFigures(ledger.client);
      const measured = await sendAndFollow(tools, { hub, figures, folder, batch, withIds });
      if (measured.failure === undefined) await writeEventsFile(ledger.client, file);
      return measured;
    });
    if (run.failure !== undefined) return run;
    await runFile("sync");
    return await onFreshHub(tools, async (_hub, ledger) => ({ ...run, copyPerSecond: await measureCopy(ledger.client, file) }));
  } finally {
    await rm(file, { force: true });
  }
}

async function sendAndFollow({ backends, generator, options }: WorkerTools, { hub, figures, folder, batch, withIds }: {
  hub: Hub;
  figures: EventFigures;
  folder: string;
  batch: number;
  withIds: boolean;
}): Promise<BatchRun> {
  const load = `events-by-${batch}${withIds ? "-with-ids" : ""}`;
  const web = await hub.startWeb(folder, load);
  const worker = await hub.startWorker(folder, load);
  const watches = { web: watchProcess(web.pid), worker: watchProcess(worker.pid) };
  const cpu = (): Reading => ({ redis: backends.redisCpuMs(), postgres: backends.postgresCpuMs() });
  let watched: { web: Watch; worker: Watch } | undefined;
  try {
    const job: Job = {
      port: web.port,
      clients: CLIENTS,
      request: {
        method: "POST", path: "/events", headers: { "Content-Type": "application/json" }, body: "events", sizeBytes: 0, events: { batch, withIds },
      },
      expect: { status: 202, text: `"accepted":${batch},"refused":[]` },
      warmUp: { requests: 0 },
      measure: { requests: (options.quick ? QUICK_EVENTS : WARM_UP_EVENTS) / batch },
    };
    const first = await generator.run(job);
    await followFigures(figures, first.answered * batch);
    await runFile("sync");

    let startedAt = 0;
    let before: Reading = {};
    const sent = await generator.run({ ...job, measure: { requests: (options.quick ? QUICK_EVENTS : EVENTS) / batch } }, {
      onMeasuring() {
        startedAt = performance.now();
        for (const watch of Object.values(watches)) watch.begin();
        before = cpu();
      },
    });
    const answeredAt = performance.now();
    const events = sent.answered * batch;
    const { endedAt, failure } = await followFigures(figures, (first.answered + sent.answered) * batch);
    for (const watch of Object.values(watches)) watch.end();
    const after = cpu();
    watched = { web: watches.web.stop(), worker: watches.worker.stop() };
    const each = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : (ms / events) * 1000);
    return {
      batch,
      withIds,
      events,
      acceptedPerSecond: sent.perSecond * batch,
      p50Ms: sent.p50Ms,
      p99Ms: sent.p99Ms,
      visiblePerSecond: (events / (endedAt - startedAt)) * 1000,
      catchUpMs: endedAt - answeredAt,
      webCpuMs: each(watched.web.cpuMs),
      workerCpuMs: each(watched.worker.cpuMs),
      redisCpuMs: each(difference(after.redis, before.redis)),
      postgresCpuMs: each(difference(after.postgres, before.postgres)),
      generatorCores: sent.generatorCores,
      webAnonymousBytes: watched.web.peakAnonymousBytes,
      workerAnonymousBytes: watched.worker.peakAnonymousBytes,
      copyPerSecond: undefined,
      failure: failureOf([first, sent]) ?? failure ?? (await untilEmpty(backends, backends.eventsStream))
        ?? (await figures.compare((first.answered + sent.answered) * batch, withIds)),
    };
  } finally {
    if (watched === undefined) for (const watch of Object.values(watches)) watch.stop();
    await web.stop();
    await worker.stop();
  }
}

interface Reading {
  redis?: number | undefined;
  postgres?: number | undefined;
}

/** Until so many are in the figures, which the same commit makes visible as the events themselves. */
async function followFigures(figures: EventFigures, until: number): Promise<{ endedAt: number; failure: string | undefined }> {
  let last = { events: -1, at: performance.now() };
  for (;;) {
    const events = await figures.recorded();
    const at = performance.now();
    if (events !== last.events) last = { events, at };
    if (events >= until) return { endedAt: at, failure: undefined };
    if (at - last.at > GIVE_UP_AFTER_MS) return { endedAt: at, failure: `it stopped at ${events} of ${until}` };
    await sleep(POLL_MS);
  }
}

function failureOf(results: readonly JobResult[]): string | undefined {
  return results.find(({ failures }) => failures > 0)?.reasons.join("; ");
}
