import type { Redis } from "ioredis";
import { command } from "./redis.ts";

/** So long is a slice of time. */
export const SLICE_MS = 5_000;
const KEY_MS = 60_000; // slices of a minute share a key
const KEEP_SECONDS = 1_200; // longer than anybody looks back

/**
 * What several processes count, by slices of time, in Redis. Each keeps its own figures of a slice and puts them down anew,
 * so that telling them again changes nothing. Slices are told apart by the processes' own clocks.
 */
export function createSlices(redis: Redis, prefix: string) {
  const keyOf = (at: number) => `${prefix}slices:${Math.floor(at / KEY_MS)}`;

  /** @param slices  when each began -> what `by` has to say of it; @throws Unavailable: nobody knows which were written */
  async function put(by: string, slices: ReadonlyMap<number, string>): Promise<void> {
    if (slices.size === 0) return;
    const pipeline = redis.pipeline();
    for (const [at, said] of slices) pipeline.hset(keyOf(at), `${at} ${by}`, said).expire(keyOf(at), KEEP_SECONDS);
    for (const [error] of (await command(pipeline.exec())) ?? []) if (error) await command(Promise.reject(error));
  }

  /** What everybody said of the slices that begin in that time: when a slice began -> each one's word. @throws Unavailable */
  async function read(fromMs: number, toMs: number): Promise<Map<number, string[]>> {
    const pipeline = redis.pipeline();
    for (let at = Math.floor(fromMs / KEY_MS) * KEY_MS; at <= toMs; at += KEY_MS) pipeline.hgetall(keyOf(at));
    const slices = new Map<number, string[]>();
    for (const [error, fields] of (await command(pipeline.exec())) ?? []) {
      if (error) await command(Promise.reject(error));
      for (const [field, said] of Object.entries(fields as Record<string, string>)) {
        const at = Number.parseInt(field, 10);
        if (at >= fromMs && at <= toMs) slices.set(at, [...(slices.get(at) ?? []), said]);
      }
    }
    return slices;
  }

  return { put, read };
}

export type Slices = ReturnType<typeof createSlices>;

/** When the slice began that this moment is in. */
export function sliceOf(ms: number): number {
  return Math.floor(ms / SLICE_MS) * SLICE_MS;
}
