import type { Redis } from "ioredis";
import type { Log } from "../core/log.ts";
import { command } from "./redis.ts";

const REFUSES = "noeviction";

/**
 * Watches over what Redis does when its memory is full. It must refuse new entries, which the door copes with; a Redis
 * that throws keys away instead loses notes and limits, and nobody sees that it is full, nor that no worker empties it.
 */
export function createEvictionWatch({ redis, log }: { redis: Redis; log: Log }) {
  let found: string | undefined;
  let toldThatUnknown = false;

  /**
   * Asks Redis, and logs when the answer has become a bad one.
   * @returns what is wrong, in a sentence; undefined: nothing, or Redis does not tell
   * @throws Unavailable
   */
  async function check(): Promise<string | undefined> {
    const policy = await evictingPolicy();
    if (policy && policy !== found) log.error({ policy }, "redis throws keys away when it is full");
    if (!policy && found) log.info("redis throws no keys away any more");
    found = policy;
    return policy && warningOf(policy);
  }

  /**
   * For the start of a process, once Redis had its time to connect. With Redis away it begins all the same; whenever
   * there is a new connection the policy is looked at again, because it may lead to another server, and only logged.
   * @throws Error in words for whoever set it up
   */
  async function refuse(): Promise<void> {
    const policy = await evictingPolicy().catch(() => undefined);
    if (policy) throw new Error(refusalOf(policy));
    redis.on("ready", () => void check().catch(() => {})); // gone again: the next connection is looked at
  }

  async function evictingPolicy(): Promise<string | undefined> {
    const policy = await readPolicy(redis);
    if (policy === undefined && !toldThatUnknown) log.info("redis does not tell what it does when it is full");
    toldThatUnknown ||= policy === undefined;
    return policy === REFUSES ? undefined : policy;
  }

  return { check, refuse };
}

export type EvictionWatch = ReturnType<typeof createEvictionWatch>;

/** From INFO, because managed servers forbid CONFIG; some forbid this as well, or leave the line out: undefined. */
async function readPolicy(redis: Redis): Promise<string | undefined> {
  const info = await command(redis.info("memory").catch((error: Error) => {
    if (error.name === "ReplyError") return "";
    throw error;
  }));
  return /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
}

function warningOf(policy: string): string {
  return `its maxmemory-policy is ${policy}, not ${REFUSES}: when it is full it throws away notes of waiting uploads and what the limits count`;
}

function refusalOf(policy: string): string {
  return `Redis (REDIS_URL) has the maxmemory-policy ${policy}; it must be ${REFUSES}. When its memory is full it would throw keys away: `
    + "notes of waiting uploads, which then wait for the reconciler, and what the limits count; and nobody would see that it is full, "
    + "nor that no worker empties it.\n"
    + `Set it: redis-cli CONFIG SET maxmemory-policy ${REFUSES}, and in redis.conf, so that it stays; on Render maxmemoryPolicy: ${REFUSES} `
    + `in render.yaml, or on the page of the Key Value; on ElastiCache maxmemory-policy in the parameter group.`;
}
