import type { Redis } from "ioredis";
import { command } from "./redis.ts";

const KEYS_AT_ONCE = 500; // in one pipeline: 1,000 commands

/** Counters in Redis that several processes add to. Keys get `prefix` in front, and expire. */
export function createCounters(redis: Redis, prefix: string) {
  /**
   * Adds `by` to each counter (0: only reads it), which then lives for `expireSeconds` more.
   * @returns their totals, in the same order
   * @throws Unavailable; then it is not known which of them were added to
   */
  async function exchange(changes: readonly { key: string; by: number }[], expireSeconds: number): Promise<number[]> {
    const totals: number[] = [];
    for (let at = 0; at < changes.length; at += KEYS_AT_ONCE) {
      const pipeline = redis.pipeline();
      for (const { key, by } of changes.slice(at, at + KEYS_AT_ONCE)) {
        if (by === 0) pipeline.get(prefix + key);
        else pipeline.incrby(prefix + key, by).expire(prefix + key, expireSeconds);
      }
      const replies = (await command(pipeline.exec())) ?? [];
      let next = 0;
      for (const { by } of changes.slice(at, at + KEYS_AT_ONCE)) {
        const [error, total] = replies[next] ?? [new Error("no reply")];
        if (error) await command(Promise.reject(error));
        totals.push(Number(total ?? 0));
        next += by === 0 ? 1 : 2;
      }
    }
    return totals;
  }

  return { exchange };
}
