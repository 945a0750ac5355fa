import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { openCrowd, type Crowd } from "../faults/crowd.ts";
import { openHub, type Hub } from "../faults/hub.ts";
import { judge, type Verdict } from "../faults/oracle.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { memoryCgroup } from "../support/memory-cgroup.ts";
import { startOwnPostgres, startOwnRedis } from "../support/own-servers.ts";
import { randomFrom } from "../../scripts/random.ts";
import { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { FAULTS, faultsFor, pick, type Victims } from "./faults.ts";
import { writeReport, type Part } from "./report.ts";

const MINUTES = Number(process.env.SOAK_MINUTES ?? 2);
const SEED = Number(process.env.SOAK_SEED ?? 1);
const MIB = 1024 ** 2;
const LIMIT_BYTES = 512 * MIB;
/** Of web and of worker, each: docs/… and bench/results hold them to it under load; here also amid faults. */
const MOST_MEMORY_MIB = 256;
const LONGEST_OUTAGE_MS = 300_000;

/** Mostly small, as devices send them; some are files of their own. */
const SIZES = [1, 900, 900, 900, 900, 900, 4_000, 4_000, 4_000, 4_000, 10_000, 30_000, 60_000, 300_000];

interface Plan {
  name: string;
  share: number; // of the minutes
  settings: Record<string, string>;
  webs: number;
  workers: number;
  /** Lasts for a sixth of all the time, and at most five minutes. */
  longOutages: string[];
}

const PLANS: Plan[] = [
  { name: "inbox and storage on disk; one web, one worker, 512 MB", share: 0.42, settings: {}, webs: 1, workers: 1, longOutages: ["Redis down", "PostgreSQL down"] },
  { name: "inbox on disk, storage in S3; two webs, two workers", share: 0.38, settings: { STORAGE_MODE: "s3" }, webs: 2, workers: 2, longOutages: ["S3 down"] },
  { name: "inbox and storage in S3; one web, one worker, 512 MB", share: 0.2, settings: { STORAGE_MODE: "s3", INBOX: "s3" }, webs: 1, workers: 1, longOutages: [] },
];

test(`the system under load and faults in random order for ${MINUTES} minutes loses nothing and doubles nothing (seed ${SEED})`, async () => {
  const random = randomFrom(SEED);
  const parts: Part[] = [];
  try {
    for (const plan of PLANS) parts.push(await runPart(plan, random));
  } finally {
    await writeReport({ minutes: MINUTES, seed: SEED, parts });
  }
  for (const { peakMemoryMib, name } of parts) for (const [process, mib] of Object.entries(peakMemoryMib)) expect([name, process, mib < MOST_MEMORY_MIB]).toEqual([name, process, true]);
}, (MINUTES * 3 + 20) * 60_000);

async function runPart({ name, share, settings, webs, workers, longOutages }: Plan, random: () => number): Promise<Part> {
  console.log(`\n=== ${name}`);
  const redis = await startOwnRedis({ durable: true });
  const postgres = await startOwnPostgres();
  const redisProxy = await throughFaultProxy(redis.url);
  const postgresProxy = await throughFaultProxy(postgres.uri);
  const s3Proxy = settings.STORAGE_MODE === "s3" ? await openS3FaultProxy(servers.s3().endpoint, { seed: SEED }) : undefined;
  const cgroup = name.includes("512 MB") ? memoryCgroup(LIMIT_BYTES) : undefined;
  const hub = await openHub({
    redisUrl: redis.url, pgUri: postgres.uri, webs, workers, conditions: { cgroup },
    settings: { S3_TIMEOUT_SECONDS: "5", ORPHAN_AGE_SECONDS: "30", CLAIM_IDLE_SECONDS: "3", ...settings },
    through: { redis: new URL(redisProxy.url).host, postgres: new URL(postgresProxy.url).host, ...(s3Proxy && { s3: new URL(s3Proxy.endpoint).host }) },
  });
  const victims: Victims = { hub, redis, redisProxy, postgres, postgresProxy, s3Proxy, random };
  const memory = watchMemory(hub);
  try {
    await hub.start();
    const crowd = openCrowd({ urls: hub.urls, clients: 8, sizes: SIZES, everyMs: 60 });
    const injected = await injectFor(share * MINUTES * 60_000, victims, longOutages);
    await crowd.stop();
    const verdict = await judge(hub, { crowds: [crowd], withinMs: 300_000, mostFetched: 20_000 });
    return describePart({ name, crowd, injected, verdict, peakMemoryMib: memory.peakMib(), kernelKills: cgroup?.kills() ?? 0 });
  } finally {
    memory.stop();
    await hub.close();
    await Promise.all([redisProxy.close(), postgresProxy.close(), s3Proxy?.close()]);
    await Promise.all([redis.close(), postgres.close()]);
    await cgroup?.remove();
  }
}

/** One fault after the other, each healed before the next, calm in between; the long outages amid them. @returns how often each */
async function injectFor(forMs: number, victims: Victims, longOutages: string[]): Promise<Record<string, number>> {
  const endsAt = Date.now() + forMs;
  const injected: Record<string, number> = {};
  const names = faultsFor(victims);
  const longMs = Math.min(LONGEST_OUTAGE_MS, (MINUTES * 60_000) / 6);
  const inject = async (name: string, ms: number) => {
    say(`${name}${ms > 20_000 ? `, for ${Math.round(ms / 1000)} s` : ""}`);
    injected[name] = (injected[name] ?? 0) + 1;
    await FAULTS[name]!(victims, ms);
  };
  await pause(2_000);
  for (const name of longOutages) await inject(name, longMs);
  while (Date.now() < endsAt) {
    await inject(pick(names, victims.random), 1_000 + victims.random() * 7_000);
    await pause(victims.random() * 3_000);
  }
  return injected;
}

function say(what: string): void {
  console.log(`${new Date().toISOString().slice(11, 19)} ${what}`);
}

function watchMemory(hub: Hub) {
  const peaks: Record<string, number> = {};
  const look = setInterval(() => {
    for (const slot of hub.slots) {
      try {
        const mib = (slot.program()?.memory("RssAnon") ?? 0) / 1024;
        if (mib > MOST_MEMORY_MIB && mib > (peaks[slot.name] ?? 0)) say(`${slot.name} holds ${Math.round(mib)} MiB`);
        if (mib > 0) peaks[slot.name] = Math.max(peaks[slot.name] ?? 0, Math.round(mib));
      } catch {
        // it died as we looked
      }
    }
  }, 500);
  return { peakMib: () => ({ ...peaks }), stop: () => clearInterval(look) };
}

function describePart({ name, crowd, injected, verdict, peakMemoryMib, kernelKills }: {
  name: string; crowd: Crowd; injected: Record<string, number>; verdict: Verdict; peakMemoryMib: Record<string, number>; kernelKills: number;
}): Part {
  if (kernelKills > 0) throw new Error(`the kernel ended ${kernelKills} processes for lack of memory`);
  console.log(`${verdict.acknowledged} acknowledged, ${verdict.lost} lost, ${verdict.doubled} doubled; at rest after ${verdict.settledAfterSeconds} s; memory ${JSON.stringify(peakMemoryMib)} MiB`);
  return { name, answers: crowd.answers, injected, peakMemoryMib, slowestMs: Math.round(crowd.slowestMs()), ...verdict };
}
