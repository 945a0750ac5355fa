import type { Redis } from "ioredis";
import { command } from "./redis.ts";

const KEYS_AT_ONCE = 500; // in one pipeline: 1,500 commands

/**
 * Counters in Redis that several add to. Each counter is a hash in which everybody keeps what he counted himself, so that
 * telling it again, where it is not known whether it was heard, changes nothing. Keys get `prefix` in front, and expire.
 */
export function createCounters(redis: Redis, prefix: string) {
  /**
   * Puts down what `by` has counted in all (undefined: only reads), for each counter, which then lives for `expireSeconds` more.
   * @returns their totals over everybody, in the same order
   * @throws Unavailable; then it is not known which of them were written
   */
  async function exchange(changes: readonly { key: string; by: string; counted: number | undefined }[], expireSeconds: number): Promise<number[]> {
    const totals: number[] = [];
    for (let at = 0; at < changes.length; at += KEYS_AT_ONCE) {
      const pipeline = redis.pipeline();
      for (const { key, by, counted } of changes.slice(at, at + KEYS_AT_ONCE)) {
        if (counted !== undefined) pipeline.hset(prefix + key, by, counted).expire(prefix + key, expireSeconds);
        pipeline.hvals(prefix + key);
      }
      for (const [error, reply] of (await command(pipeline.exec())) ?? []) {
        if (error) await command(Promise.reject(error));
        if (Array.isArray(reply)) totals.push(reply.reduce<number>((sum, counted) => sum + Number(counted), 0));
      }
    }
    return totals;
  }

  return { exchange };
}
