import { execFile } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Backends } from "./backends.ts";
import type { Generator } from "./load/generator.ts";
import type { Job, JobResult } from "./load/job.ts";
import type { Started } from "./processes.ts";
import { watchProcess, type Watch } from "./procfs.ts";

/** One turn of one server. */
export interface Sitting {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Of the server process, a request. */
  cpuMs: number | undefined;
  redisCpuMs: number | undefined;
  peakBytes: number | undefined;
  peakAnonymousBytes: number | undefined;
  generatorCores: number;
  failures: number;
  reasons: string[];
}

/** A server that takes its turn. */
export interface Sitter {
  name: string;
  usesRedis?: boolean;
  /** A fresh process on an empty folder. @param load  what for, in a word */
  start(folder: string, load: string): Promise<Started>;
  /** How much it has kept, asked after it was stopped; undefined: it cannot be said. */
  countKept(folder: string): Promise<number | undefined>;
}

const runFile = promisify(execFile);

/** A fresh process on an empty folder; both are gone afterwards. @param load  in the name of a profile */
export async function sit(rung: Sitter, load: string, job: Job, { generator, backends, dir }: {
  generator: Generator;
  backends: Backends;
  dir: string;
}): Promise<Sitting> {
  const folder = join(dir, "sitting");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await runFile("sync"); // what the one before left to the kernel is not this one's to wait for
  const server = await rung.start(folder, load);
  const watch = watchProcess(server.pid);
  let redisBefore: number | undefined;
  let redisAfter: number | undefined;
  let result: JobResult;
  let watched: Watch;
  try {
    result = await generator.run({ ...job, port: server.port }, {
      onMeasuring() {
        watch.begin();
        redisBefore = backends.redisCpuMs();
      },
      onMeasured() {
        watch.end();
        redisAfter = backends.redisCpuMs();
      },
    });
    if (result.failures > 0) result.reasons.push(`it printed: ${await server.lastWords()}`);
  } finally {
    watched = watch.stop();
    await server.stop();
  }
  const lost = await countLost(rung, folder, result.answered);
  await rm(folder, { recursive: true, force: true });
  const each = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / result.requests);
  return {
    perSecond: result.perSecond,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuMs: each(watched.cpuMs),
    redisCpuMs: rung.usesRedis === true && redisBefore !== undefined && redisAfter !== undefined ? each(redisAfter - redisBefore) : undefined,
    peakBytes: watched.peakBytes,
    peakAnonymousBytes: watched.peakAnonymousBytes,
    generatorCores: result.generatorCores,
    failures: result.failures + (lost === undefined ? 0 : 1),
    reasons: lost === undefined ? result.reasons : [...result.reasons, lost],
  };
}

/** A server that did not even start has failed like one that answered wrongly. */
export function asFailed(error: Error): Sitting {
  const nothing = { cpuMs: undefined, redisCpuMs: undefined, peakBytes: undefined, peakAnonymousBytes: undefined };
  return { ...nothing, perSecond: 0, p50Ms: 0, p99Ms: 0, generatorCores: 0, failures: 1, reasons: [error.message] };
}

/** A server that answers without doing its work would win every race. */
async function countLost(rung: Sitter, folder: string, answered: number): Promise<string | undefined> {
  const kept = await rung.countKept(folder);
  if (kept === undefined || kept === answered) return undefined;
  return `${answered} requests were acknowledged and ${kept} kept`;
}
