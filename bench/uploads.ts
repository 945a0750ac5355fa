/** How many uploads a second does each door take, at what latency, CPU and memory, and what do others on this machine? */
import type { Backends } from "./backends.ts";
import type { Generator } from "./load/generator.ts";
import type { Job, Stretch } from "./load/job.ts";
import type { Options } from "./options.ts";
import { formatSize } from "./options.ts";
import type { Rung, RungName } from "./rungs.ts";
import { asFailed, sit, type Sitting } from "./sitting.ts";

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
          const load = `${rung.name}-${sizeBytes}-bytes-${clients}-clients`;
          const sitting = await sit(rung, load, job, { generator, backends, dir: options.dir }).catch(asFailed);
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
