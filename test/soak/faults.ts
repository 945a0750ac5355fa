import { setTimeout as pause } from "node:timers/promises";
import { OF_THE_WEB, OF_THE_WORKER } from "../faults/kill-sweeps.ts";
import type { throughFaultProxy } from "../support/fault-proxy.ts";
import type { startOwnPostgres, startOwnRedis } from "../support/own-servers.ts";
import type { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import type { Hub } from "../faults/hub.ts";

/** What a fault may lay hands on. */
export interface Victims {
  hub: Hub;
  redis: Awaited<ReturnType<typeof startOwnRedis>>;
  redisProxy: Awaited<ReturnType<typeof throughFaultProxy>>;
  postgres: Awaited<ReturnType<typeof startOwnPostgres>>;
  postgresProxy: Awaited<ReturnType<typeof throughFaultProxy>>;
  /** Only where bytes are kept in S3. */
  s3Proxy: Awaited<ReturnType<typeof openS3FaultProxy>> | undefined;
  /** 0 up to 1. */
  random: () => number;
}

/** Does its harm for about so long, and heals it. @returns the name of another fault, where that is what came of it */
export type Fault = (victims: Victims, forMs: number) => Promise<string | void>;

export const FAULTS: Record<string, Fault> = {
  "web killed": async ({ hub, random }) => void (await pick(hub.webs, random).restart()),
  "worker killed": async ({ hub, random }) => void (await pick(hub.workers, random).restart()),
  "web killed at a step": async ({ hub, random }) => (await killedAtAStep(pick(hub.webs, random), pick(OF_THE_WEB, random), timeOf(random))) ? undefined : "web killed",
  "worker killed at a step": async ({ hub, random }) => (await killedAtAStep(pick(hub.workers, random), pick(OF_THE_WORKER, random), timeOf(random))) ? undefined : "worker killed",
  "everything of ours killed": async ({ hub }) => {
    await Promise.all(hub.slots.map((slot) => slot.kill()));
    await hub.start();
  },
  "web ended by SIGTERM": async ({ hub, random }) => endedInOrder(pick(hub.webs, random)),
  "worker ended by SIGTERM": async ({ hub, random }) => endedInOrder(pick(hub.workers, random)),
  "worker stands still": async ({ hub, random }, forMs) => {
    const worker = pick(hub.workers, random);
    worker.pause();
    await pause(Math.min(forMs, 10_000)); // it may hold the lock of the inbox's index, and then all wait for it
    worker.resume();
  },
  "no worker": async ({ hub }, forMs) => {
    await Promise.all(hub.workers.map((worker) => worker.kill()));
    await pause(forMs);
    await Promise.all(hub.workers.map((worker) => worker.start()));
  },
  "Redis killed": async ({ redis }, forMs) => {
    await redis.kill();
    await pause(forMs / 4);
    await redis.start();
  },
  "Redis down": async ({ redisProxy }, forMs) => whileSet(redisProxy, { down: true }, forMs),
  "Redis silent": async ({ redisProxy }, forMs) => whileSet(redisProxy, { blackhole: true }, forMs),
  "Redis slow": async ({ redisProxy }, forMs) => whileSet(redisProxy, { latencyMs: 300 }, forMs),
  "Redis flushed": async ({ hub }) => void (await hub.redis.flushall()),
  "Redis out of memory": async ({ hub }, forMs) => {
    await hub.redis.config("SET", "maxmemory", "1");
    await pause(forMs);
    await hub.redis.config("SET", "maxmemory", "0");
  },
  "PostgreSQL killed": async ({ postgres }, forMs) => {
    await postgres.kill();
    await pause(forMs / 4);
    await postgres.start();
  },
  "PostgreSQL down": async ({ postgresProxy }, forMs) => whileSet(postgresProxy, { down: true }, forMs),
  "PostgreSQL silent": async ({ postgresProxy }, forMs) => whileSet(postgresProxy, { blackhole: true }, forMs),
  "PostgreSQL's answers lost": async ({ postgresProxy, random }, forMs) => whileSet(postgresProxy, { cutAfterBytes: Math.floor(random() * 2_000) }, forMs / 2),
  "PostgreSQL's connections cut": async ({ hub }) => {
    await hub.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'connectstorm%'").catch(() => {});
  },
  "S3 down": async ({ s3Proxy }, forMs) => whileSet(s3Proxy, { down: true }, forMs),
  "S3 answering 500 and 503": async ({ s3Proxy }, forMs) => whileSet(s3Proxy, { failShare: 0.3 }, forMs),
  "S3's answers lost": async ({ s3Proxy }, forMs) => whileSet(s3Proxy, { loseReplyShare: 0.3 }, forMs),
  "S3 silent": async ({ s3Proxy }, forMs) => whileSet(s3Proxy, { hang: true }, forMs),
  "S3 at 10 KB a second": async ({ s3Proxy }, forMs) => whileSet(s3Proxy, { bytesPerSecond: 10_000 }, forMs),
};

/** Of these, the faults of what is there. */
export function faultsFor({ s3Proxy }: Pick<Victims, "s3Proxy">): string[] {
  return Object.keys(FAULTS).filter((name) => s3Proxy || !name.startsWith("S3"));
}

export function pick<T>(from: readonly T[], random: () => number): T {
  return from[Math.floor(random() * from.length)]!;
}

async function whileSet<F>(proxy: { set(faults: F): void } | undefined, faults: F, forMs: number): Promise<void> {
  proxy!.set(faults);
  await pause(forMs);
  proxy!.set({} as F);
}

type Slot = Hub["slots"][number];

/** The how manieth time at a step kills. */
const timeOf = (random: () => number) => 1 + Math.floor(random() * 20);

/** @returns false: it did not come to that step, in a quiet moment, and was killed where it was @throws where it died of something else */
export async function killedAtAStep(slot: Slot, step: string, time: number, withinMs = 10_000): Promise<boolean> {
  const said = slot.output().length;
  const { exit } = await slot.restart({ FAILPOINTS: `${step}=kill@${time}` });
  const died = await Promise.race([exit.then(() => true), pause(withinMs, false)]);
  const lastWords = slot.output().slice(said);
  await slot.restart();
  const reached = lastWords.includes(`failpoint ${step}: kill`);
  if (died && !reached) throw new Error(`${slot.name} was to die at ${step}, and died of something else:\n${lastWords.slice(-4_000)}`);
  return reached;
}

async function endedInOrder(slot: Slot): Promise<void> {
  const program = slot.program();
  await slot.kill("SIGTERM");
  const code = await program?.exit;
  if (code !== 0) throw new Error(`${slot.name} ended with ${code} after SIGTERM:\n${program?.output().slice(-4_000)}`);
  await slot.start();
}
