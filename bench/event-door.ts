/** How many POST /event a second, and how long do they take when only half as many come? */
import { fileURLToPath } from "node:url";
import type { Backends } from "./backends.ts";
import { createHub, type Hub } from "./hub.ts";
import type { Job, RequestShape } from "./load/job.ts";
import { startProcess } from "./processes.ts";
import { asFailed, sit, type Sitter, type Sitting } from "./sitting.ts";
import type { WorkerTools } from "./worker.ts";

const CLIENTS = [16, 64] as const;
/** An open loop takes as many connections as wait at once, up to so many. */
const PACED_CLIENTS = 64;
const PAGE = 200; // entries of up to 128 KiB

export type DoorRungName = "ours" | "parse" | "parse-append";

export interface DoorCell {
  rung: DoorRungName;
  label: string;
  clients: number;
  /** In the order of the rounds. */
  sittings: Sitting[];
}

/** Ours with requests that come at fixed times, half as many as it took in the same round. */
export interface HalfLoad {
  askedPerSecond: number;
  sitting: Sitting;
  /** The bare server that appends, with as many: what of the time is the machine's. */
  bare: Sitting;
}

export interface DoorResult {
  cells: DoorCell[];
  halfLoad: HalfLoad[];
}

interface DoorRung extends Sitter {
  name: DoorRungName;
  label: string;
}

const REQUEST: RequestShape = {
  method: "POST", path: "/event", headers: { "Content-Type": "application/json" }, body: "events", sizeBytes: 0, events: { withIds: false },
};

export async function measureEventDoor({ backends, generator, options, logs, profiles, say }: WorkerTools): Promise<DoorResult> {
  const pgUri = await backends.createDatabase("events");
  try {
    const hub = createHub({ backends, pgUri, logs, profiles });
    await hub.migrate();
    const rungs = createDoorRungs({ hub, backends, logs });
    const job = (clients: number): Job => ({
      port: 0,
      clients,
      request: REQUEST,
      expect: { status: 202, text: '{"status":"accepted"}' },
      warmUp: { forMs: options.seconds * 500 },
      measure: { forMs: options.seconds * 1000 },
    });
    const turn = async (rung: DoorRung, load: string, round: number, wanted: Job): Promise<Sitting> => {
      const sitting = await sit(rung, `${rung.name}-event-${load}`, wanted, { generator, backends, dir: options.dir }).catch(asFailed);
      say(`POST /event, ${load}, round ${round}: ${rung.name} ${sitting.failures > 0
        ? `FAILED: ${sitting.reasons.join("; ")}` : `${sitting.perSecond.toFixed(0)}/s, p99 ${sitting.p99Ms.toFixed(2)} ms`}`);
      return sitting;
    };
    const cells = CLIENTS.flatMap((clients) => rungs.map(({ name, label }): DoorCell => ({ rung: name, label, clients, sittings: [] })));
    const halfLoad: HalfLoad[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      let most = 0;
      for (const cell of cells) {
        const rung = rungs.find(({ name }) => name === cell.rung)!;
        const sitting = await turn(rung, `${cell.clients}-clients`, round, job(cell.clients));
        cell.sittings.push(sitting);
        if (rung.name === "ours" && sitting.failures === 0) most = Math.max(most, sitting.perSecond);
      }
      if (most === 0) continue;
      const askedPerSecond = most / 2;
      const paced = { ...job(PACED_CLIENTS), pacePerSecond: askedPerSecond };
      const [ours, append] = rungs as [DoorRung, DoorRung];
      halfLoad.push({ askedPerSecond, sitting: await turn(ours, "half-load", round, paced), bare: await turn(append, "half-load", round, paced) });
    }
    return { cells, halfLoad };
  } finally {
    await backends.dropDatabase(pgUri);
  }
}

/** Ours first, then the one that appends. */
function createDoorRungs({ hub, backends, logs }: { hub: Hub; backends: Backends; logs: string }): DoorRung[] {
  const stream = `${backends.prefix}bare-events`;
  const startOther = (script: string): Sitter["start"] => async () => {
    await backends.emptyRedis();
    return startProcess({
      name: script,
      script: fileURLToPath(new URL(`servers/${script}.js`, import.meta.url)),
      env: { REDIS_URL: backends.redisUrl, STREAM: stream },
      logs,
      readyPath: "/",
    });
  };
  return [
    {
      name: "ours",
      label: "ConnectStorm POST /event",
      usesRedis: true,
      async start(folder, load) {
        await backends.emptyRedis();
        return hub.startWeb(folder, load);
      },
      countKept: () => countStreamed(backends),
    },
    {
      name: "parse-append",
      label: "raw http: JSON.parse, XADD",
      usesRedis: true,
      start: startOther("append-event"),
      countKept: () => backends.redis.xlen(stream),
    },
    { name: "parse", label: "raw http: JSON.parse", start: startOther("parse-event"), countKept: async () => undefined },
  ];
}

/** Entries hold lists of events. */
async function countStreamed({ redis, eventsStream }: Backends): Promise<number> {
  let events = 0;
  for (let from = "-"; ;) {
    const entries = await redis.xrange(eventsStream, from, "+", "COUNT", PAGE);
    for (const [, fields] of entries) events += (JSON.parse(fields[fields.indexOf("body") + 1] ?? "[]") as unknown[]).length;
    const last = entries.at(-1)?.[0];
    if (last === undefined) return events;
    from = `(${last}`;
  }
}
