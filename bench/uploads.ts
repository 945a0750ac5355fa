/** How many uploads a second does each door take, at what latency, CPU and memory, and what do others on this machine? */
import { execFile } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Backends } from "./backends.ts";
import type { Generator } from "./load/generator.ts";
import type { Job, JobResult, Stretch } from "./load/job.ts";
import type { Options } from "./options.ts";
import { formatSize } from "./options.ts";
import { watchProcess, type Watch } from "./procfs.ts";
import type { Rung, RungName } from "./rungs.ts";

/** One turn of one server. */
export interface Sitting {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Of the server process, a upload. */
  cpuMs: number | undefined;
  redisCpuMs: number | undefined;
  peakBytes: number | undefined;
  peakAnonymousBytes: number | undefined;
  generatorCores: number;
  failures: number;
  reasons: string[];
}

export interface UploadCell {
  rung: RungName;
  label: string;
  sizeBytes: number;
  clients: number;
  /** In the order of the rounds. */
  sittings: Sitting[];
}

const MIB = 1_048_576;
const LARGE_BYTES = MIB; // from here on a stretch is a number of uploads, not a time: few fit into it
const WARM_UP_BYTES = 10 * MIB;
const LARGE_BYTES_A_SECOND = 300 * MIB; // a guess at the speed, to turn --seconds into a number of uploads
const HUGE_BYTES = 1024 * MIB;
const runFile = promisify(execFile);

export async function measureUploads({ rungs, generator, backends, options, say }: {
  rungs: Rung[];
  generator: Generator;
  backends: Backends;
  options: Options;
  say: (line: string) => void;
}): Promise<UploadCell[]> {
  const cells: UploadCell[] = [];
  for (const sizeBytes of options.sizesBytes) {
    const clientsOfSize = sizeBytes >= HUGE_BYTES ? [1] : options.clients;
    for (const clients of clientsOfSize) {
      const entrants = rungs.filter((rung) => sizeBytes <= (rung.largestBytes ?? sizeBytes));
      const row = entrants.map((rung): UploadCell => ({ rung: rung.name, label: rung.label, sizeBytes, clients, sittings: [] }));
      for (let round = 1; round <= options.rounds; round++) {
        // In turns, so that whatever the machine does to one of them it does to all.
        for (const [index, rung] of entrants.entries()) {
          const job = { ...planJob(rung, sizeBytes, clients, options.seconds), port: 0 };
          const sitting = await sit(rung, job, { generator, backends, dir: options.dir }).catch(asFailed);
          row[index]?.sittings.push(sitting);
          const outcome = sitting.failures > 0 ? `FAILED: ${sitting.reasons.join("; ")}` : `${sitting.perSecond.toFixed(1)}/s`;
          say(`${formatSize(sizeBytes)} x${clients}, round ${round}: ${rung.name} ${outcome}`);
        }
      }
      cells.push(...row);
    }
  }
  return cells;
}

function planJob(rung: Rung, sizeBytes: number, clients: number, seconds: number): Omit<Job, "port"> {
  const planned = { clients, request: rung.request(sizeBytes), expect: rung.expect(sizeBytes) };
  if (sizeBytes < LARGE_BYTES) {
    return { ...planned, warmUp: { forMs: seconds * 500 }, measure: { forMs: seconds * 1000 } };
  }
  const twoEach = clients > 1 ? 2 * clients : 1; // so that not all of them start and end together
  const fitting = (forSeconds: number, bytes: number): number => Math.ceil((forSeconds * LARGE_BYTES_A_SECOND) / bytes);
  const measure: Stretch = { requests: Math.max(twoEach, fitting(seconds, sizeBytes)) };
  const warmUp: Stretch = { requests: Math.max(clients, fitting(seconds / 2, Math.min(sizeBytes, WARM_UP_BYTES))) };
  return sizeBytes > WARM_UP_BYTES
    ? { ...planned, warmUp, warmUpBytes: WARM_UP_BYTES, measure }
    : { ...planned, warmUp, measure };
}

/** A fresh process on an empty folder; both are gone afterwards. */
async function sit(rung: Rung, job: Job, { generator, backends, dir }: {
  generator: Generator;
  backends: Backends;
  dir: string;
}): Promise<Sitting> {
  const folder = join(dir, "sitting");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await runFile("sync"); // what the one before left to the kernel is not this one's to wait for
  const server = await rung.start(folder, `${rung.name}-${job.request.sizeBytes}-bytes-${job.clients}-clients`);
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
  const ours = rung.name.startsWith("ours");
  const each = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / result.requests);
  return {
    perSecond: result.perSecond,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    cpuMs: each(watched.cpuMs),
    redisCpuMs: ours && redisBefore !== undefined && redisAfter !== undefined ? each(redisAfter - redisBefore) : undefined,
    peakBytes: watched.peakBytes,
    peakAnonymousBytes: watched.peakAnonymousBytes,
    generatorCores: result.generatorCores,
    failures: result.failures + (lost === undefined ? 0 : 1),
    reasons: lost === undefined ? result.reasons : [...result.reasons, lost],
  };
}

/** A server that did not even start has failed like one that answered wrongly. */
function asFailed(error: Error): Sitting {
  const nothing = { cpuMs: undefined, redisCpuMs: undefined, peakBytes: undefined, peakAnonymousBytes: undefined };
  return { ...nothing, perSecond: 0, p50Ms: 0, p99Ms: 0, generatorCores: 0, failures: 1, reasons: [error.message] };
}

/** A server that answers without doing its work would win every race. */
async function countLost(rung: Rung, folder: string, answered: number): Promise<string | undefined> {
  const kept = await rung.countKept(folder);
  if (kept === undefined || kept === answered) return undefined;
  return `${answered} uploads were acknowledged and ${kept} kept`;
}
