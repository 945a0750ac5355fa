import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { openCrowd, type Crowd } from "../faults/crowd.ts";
import { openHub, type Hub } from "../faults/hub.ts";
import { judge, NotKept, type Verdict } from "../faults/oracle.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { memoryCgroup } from "../support/memory-cgroup.ts";
import { startOwnPostgres, startOwnRedis } from "../support/own-servers.ts";
import { randomFrom } from "../../scripts/random.ts";
import { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { FAULTS, faultsFor, pick, type Victims } from "./faults.ts";
import { MOST_MEMORY_MIB, whyRed, writeReport, type Part } from "./report.ts";

const MINUTES = Number(process.env.SOAK_MINUTES ?? 2);
const SEED = Number(process.env.SOAK_SEED ?? 1);
const MIB = 1024 ** 2;
const LIMIT_BYTES = 512 * MIB;
const LONGEST_OUTAGE_MS = 300_000;

/** Mostly small, as devices send them; some are files of their own. */
const SIZES = [1, 900, 900, 900, 900, 900, 4_000, 4_000, 4_000, 4_000, 10_000, 30_000, 60_000, 300_000];

interface Plan {
  name: string;
  share: number; // of the minutes
  settings: Record<string, string>;
  webs: number;
  workers: number;
  /** All of its processes together have 512 MB, where this machine lets us say so. */
  isLimited: boolean;
  /** Each lasts for a sixth of all the time, and at most five minutes. */
  longOutages: string[];
}

const PLANS: Plan[] = [
  { name: "inbox and storage on disk; one web, one worker", share: 0.38, settings: {}, webs: 1, workers: 1, isLimited: true, longOutages: ["Redis down", "PostgreSQL down"] },
  { name: "inbox on disk, storage in S3; two webs, two workers", share: 0.34, settings: { STORAGE_MODE: "s3" }, webs: 2, workers: 2, isLimited: false, longOutages: ["S3 down"] },
  { name: "inbox and storage in S3; one web, one worker", share: 0.28, settings: { STORAGE_MODE: "s3", INBOX: "s3" }, webs: 1, workers: 1, isLimited: true, longOutages: ["S3 down"] },
];

test(`the system under load and faults in random order for ${MINUTES} minutes loses nothing and doubles nothing (seed ${SEED})`, async () => {
  const random = randomFrom(SEED);
  const parts: Part[] = [];
  const run = { minutes: MINUTES, seed: SEED, parts, planned: PLANS.length };
  try {
    for (const plan of PLANS) {
      const part = await runPart(plan, random);
      parts.push(part);
      if (part.troubles.length > 0) break; // its clients would go on trying beside the next
    }
  } finally {
    await writeReport(run);
  }
  expect(whyRed(run)).toEqual([]);
}, (MINUTES * 3 + 20) * 60_000);

/** Whatever happens, there is something to report. */
async function runPart(plan: Plan, random: () => number): Promise<Part> {
  const part: Part = { name: plan.name, acknowledged: 0, verdict: undefined, troubles: [], answers: {}, injected: {}, peakMemoryMib: {}, slowestMs: 0 };
  try {
    await carryOut(plan, random, part);
  } catch (error) {
    part.troubles.push(error instanceof Error ? error.message : String(error));
  }
  for (const trouble of part.troubles) console.log(`FAILED: ${trouble}`);
  return part;
}

/** Writes down in `part` what comes of it, as it comes. */
async function carryOut({ name, share, settings, webs, workers, isLimited, longOutages }: Plan, random: () => number, part: Part): Promise<void> {
  const redis = await startOwnRedis({ durable: true });
  const postgres = await startOwnPostgres();
  const redisProxy = await throughFaultProxy(redis.url);
  const postgresProxy = await throughFaultProxy(postgres.uri);
  const s3Proxy = settings.STORAGE_MODE === "s3" ? await openS3FaultProxy(servers.s3().endpoint, { seed: SEED }) : undefined;
  const cgroup = isLimited ? memoryCgroup(LIMIT_BYTES) : undefined;
  if (isLimited) part.name = `${name}, ${cgroup ? `${LIMIT_BYTES / MIB} MB` : "no limit of memory here"}`;
  console.log(`\n=== ${part.name}`);
  const hub = await openHub({
    redisUrl: redis.url, pgUri: postgres.uri, webs, workers, conditions: { cgroup },
    settings: { S3_TIMEOUT_SECONDS: "5", ORPHAN_AGE_SECONDS: "30", CLAIM_IDLE_SECONDS: "3", ...settings },
    through: { redis: new URL(redisProxy.url).host, postgres: new URL(postgresProxy.url).host, ...(s3Proxy && { s3: new URL(s3Proxy.endpoint).host }) },
  });
  const victims: Victims = { hub, redis, redisProxy, postgres, postgresProxy, s3Proxy, random };
  const memory = watchMemory(hub, part.peakMemoryMib);
  try {
    await hub.start();
    const crowd = openCrowd({ urls: hub.urls, clients: 8, sizes: SIZES, everyMs: 60 });
    part.answers = crowd.answers;
    try {
      await injectFor(share * MINUTES * 60_000, victims, longOutages, part.injected);
      await crowd.stop();
      part.verdict = await judgePart(hub, crowd, part.troubles);
    } finally {
      part.acknowledged = crowd.acknowledged.size;
      part.slowestMs = Math.round(crowd.slowestMs());
      const kernelKills = cgroup?.kills() ?? 0;
      if (kernelKills > 0) part.troubles.push(`the kernel ended ${kernelKills} processes for lack of memory`);
    }
    const { lost, doubled, settledAfterSeconds } = part.verdict;
    console.log(`${part.acknowledged} acknowledged, ${lost} lost, ${doubled} doubled; at rest after ${settledAfterSeconds} s; memory ${JSON.stringify(part.peakMemoryMib)} MiB`);
  } finally {
    memory.stop();
    await hub.close();
    await Promise.all([redisProxy.close(), postgresProxy.close(), s3Proxy?.close()]);
    await Promise.all([redis.close(), postgres.close()]);
    await cgroup?.remove();
  }
}

/** What it counted is worth telling even where something is wrong. */
async function judgePart(hub: Hub, crowd: Crowd, troubles: string[]): Promise<Verdict> {
  try {
    return await judge(hub, { crowds: [crowd], withinMs: 300_000, mostFetched: 20_000 });
  } catch (error) {
    if (!(error instanceof NotKept)) throw error;
    troubles.push(...error.wrong);
    return error.verdict;
  }
}

/** One fault after the other, each healed before the next, calm in between; the long outages amid them. @param injected  is told how often each */
async function injectFor(forMs: number, victims: Victims, longOutages: string[], injected: Record<string, number>): Promise<void> {
  const endsAt = Date.now() + forMs;
  const names = faultsFor(victims);
  const longMs = Math.min(LONGEST_OUTAGE_MS, (MINUTES * 60_000) / 6);
  const inject = async (name: string, ms: number) => {
    say(`${name}${ms > 20_000 ? `, for ${Math.round(ms / 1000)} s` : ""}`);
    const happened = (await FAULTS[name]!(victims, ms)) ?? name;
    injected[happened] = (injected[happened] ?? 0) + 1;
  };
  await pause(2_000);
  for (const name of longOutages) await inject(name, longMs);
  while (Date.now() < endsAt) {
    await inject(pick(names, victims.random), 1_000 + victims.random() * 7_000);
    await pause(victims.random() * 3_000);
  }
}

function say(what: string): void {
  console.log(`${new Date().toISOString().slice(11, 19)} ${what}`);
}

/** @param peaks  is told the most that each held, in MiB */
function watchMemory(hub: Hub, peaks: Record<string, number>) {
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
  return { stop: () => clearInterval(look) };
}
