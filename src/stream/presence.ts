import type { Redis } from "ioredis";
import { command } from "./redis.ts";

/** Of whom nothing was heard for so long, nothing is known any more. By the clock of Redis, so ours need not agree. */
const EXPIRE_SECONDS = 10;

/**
 * Who is alive, and what they say of themselves: a key each, which expires unless it is said again, and a set of the names.
 * A name whose key is gone is taken from the set by whoever looks; one that was only slow puts itself back.
 */
export function createPresence(redis: Redis, key: string) {
  const keyOf = (name: string) => `${key}:${name}`;

  /** @throws Unavailable */
  async function say(name: string, said: string): Promise<void> {
    const pipeline = redis.pipeline().set(keyOf(name), said, "EX", EXPIRE_SECONDS).sadd(key, name).expire(key, 10 * EXPIRE_SECONDS);
    for (const [error] of (await command(pipeline.exec())) ?? []) if (error) await command(Promise.reject(error));
  }

  /** For who goes in order. */
  async function leave(name: string): Promise<void> {
    await redis.pipeline().srem(key, name).del(keyOf(name)).exec().catch(() => {}); // else it expires
  }

  /** Name -> what it said last, by name. @throws Unavailable */
  async function read(): Promise<Map<string, string>> {
    const names = (await command(redis.smembers(key))).sort();
    if (names.length === 0) return new Map();
    const said = await command(redis.mget(names.map(keyOf)));
    const gone = names.filter((_, i) => said[i] === null);
    if (gone.length > 0) await command(redis.srem(key, ...gone));
    return new Map(names.flatMap((name, i) => (said[i] === null ? [] : [[name, said[i]!] as const])));
  }

  return { say, leave, read };
}

export type Presence = ReturnType<typeof createPresence>;
