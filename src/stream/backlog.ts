import type { Redis } from "ioredis";
import { command } from "./redis.ts";
import { parseEntries, type Entry } from "./consumer.ts";

const PAGE_ENTRIES = 1_000;

/** How many entries wait or are being worked on. */
export function backlogLength(redis: Redis, stream: string): Promise<number> {
  return command(redis.xlen(stream));
}

/**
 * What the stream takes of Redis's memory, bytes. Of all its nodes: five samples, Redis's default, are the five oldest, and what
 * came since may be a hundred times as large. Costs Redis some 11 ms a GiB of small entries. @throws Unavailable
 */
export async function backlogBytes(redis: Redis, stream: string): Promise<number> {
  return (await command(redis.memory("USAGE", stream, "SAMPLES", 0))) ?? 0;
}

/** For how long the oldest entry has been there, by the clock of Redis. Undefined: there is none. */
export async function oldestAgeMs(redis: Redis, stream: string): Promise<number | undefined> {
  const replies = (await command(redis.pipeline().xrange(stream, "-", "+", "COUNT", 1).time().exec())) ?? [];
  for (const [error] of replies) if (error) await command(Promise.reject(error));
  const [oldest] = parseEntries(replies[0]![1]);
  const [seconds, micros] = replies[1]![1] as [string, string];
  return oldest && Math.max(0, Number(seconds) * 1000 + Number(micros) / 1000 - Number.parseInt(oldest.id, 10));
}

/** The newest entries, newest first, and whether a consumer has each in hand right now. */
export async function newestEntries(redis: Redis, stream: string, most: number): Promise<(Entry & { inHand: boolean })[]> {
  const entries = parseEntries(await command(redis.xrevrange(stream, "+", "-", "COUNT", most)));
  if (entries.length === 0) return [];
  const inHand = await command(redis.smismember(inHandKey(stream), ...entries.map(({ key }) => key)));
  return entries.map((entry, i) => ({ ...entry, inHand: inHand[i] === 1 }));
}

/**
 * The keys of all entries, waiting or being worked on, read page by page.
 * @param mostEntries  a longer stream is not read: undefined is returned
 */
export async function queuedKeys(redis: Redis, stream: string, mostEntries: number): Promise<Set<string> | undefined> {
  if ((await backlogLength(redis, stream)) > mostEntries) return undefined;
  const keys = new Set<string>();
  for (let from = "-"; ;) {
    const entries = parseEntries(await command(redis.xrange(stream, from, "+", "COUNT", PAGE_ENTRIES)));
    for (const { key } of entries) keys.add(key);
    const last = entries.at(-1);
    if (!last || entries.length < PAGE_ENTRIES) return keys;
    from = `(${last.id}`;
  }
}

/** Whether a worker has this item in hand right now. */
export async function inHand(redis: Redis, stream: string, key: string): Promise<boolean> {
  return (await command(redis.sismember(inHandKey(stream), key))) === 1;
}

/** The set of keys that some consumer of the stream is working on. */
export function inHandKey(stream: string): string {
  return `${stream}:in-hand`;
}
