import type { Redis } from "ioredis";
import { backoffMs, pause } from "../core/backoff.ts";
import { Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import type { Log } from "../core/log.ts";
import { inHandKey } from "./backlog.ts";
import { command } from "./redis.ts";

/** An entry as it was read: `id` is the stream's, `key` names the item, `body` is what append() was given. */
export interface Entry {
  id: string;
  key: string;
  body: string;
}

/**
 * Works on a batch. Entries whose id is in the answer stay pending and come again after `retryMs`, alone;
 * all others are acknowledged. If it throws, the whole batch stays pending; Unavailable makes the loop wait.
 */
export type Handler = (entries: Entry[]) => Promise<ReadonlySet<string>>;

export interface ConsumerSettings {
  redis: Redis;
  blocking: Redis;
  stream: string;
  group: string;
  /** Unique among living processes: what a dead one left is found by its name. */
  name: string;
  batchSize: number;
  /** An entry that a consumer has not touched for so long is taken from it. It touches its batch three times in that time. */
  claimIdleMs: number;
  retryMs: number;
  handle: Handler;
  /** Told whenever it begins or ends something, for whoever asks what it is at. */
  tell?: (doing: Doing) => void;
  log: Log;
}

/** What a consumer is at: waits for entries, works on so many, or waits for what has failed to come back. */
export type Doing = { state: "idle" } | { state: "working"; entries: number } | { state: "paused"; because: string };

const BLOCK_MS = 1_000;
const CLAIM_EVERY_MS = 1_000;
const FORGET_CONSUMER_MS = 3_600_000;

export type Consumer = ReturnType<typeof createConsumer>;

export function createConsumer(settings: ConsumerSettings) {
  const { redis, blocking, stream, group, name, batchSize, claimIdleMs, retryMs, handle, tell = () => {}, log } = settings;
  const retryAt = new Map<string, number>(); // entry id -> milliseconds since 1970
  let nextClaimAt = 0;

  /** One batch: what failed and is due, else what a dead worker left, else what is new. @returns how many entries */
  async function runOnce(blockMs: number): Promise<number> {
    const entries = await nextBatch(blockMs);
    if (entries.length === 0) return 0;
    tell({ state: "working", entries: entries.length });
    const stillAlive = setInterval(() => void touch(entries), claimIdleMs / 3);
    try {
      await failpoint("batch-read");
      await markInHand(entries);
      const failed = await handle(entries);
      for (const id of failed) retryAt.set(id, Date.now() + retryMs);
      await acknowledge(entries.filter(({ id }) => !failed.has(id)));
      await failpoint("batch-acknowledged");
      await redis.srem(inHandKey(stream), ...entries.map(({ key }) => key)).catch(() => {}); // as above
    } catch (error) {
      // All of them stay pending and are ours: without this they would wait for somebody to claim them.
      for (const { id } of entries) retryAt.set(id, Date.now());
      throw error;
    } finally {
      clearInterval(stillAlive);
    }
    tell({ state: "idle" });
    return entries.length;
  }

  /** Repeats runOnce until the signal aborts, waiting longer and longer while a dependency is away. */
  async function run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        await runOnce(BLOCK_MS);
        if (failures > 0) {
          tell({ state: "idle" });
          log.info({ stream, failures }, "consumer resumed");
        }
        failures = 0;
      } catch (err) {
        if (signal.aborted) return;
        failures++;
        tell({ state: "paused", because: err instanceof Unavailable ? err.dependency : "error" });
        const waitMs = backoffMs(failures, { firstMs: 100, mostMs: 10_000 });
        const level = err instanceof Unavailable && !err.refused ? "warn" : "error";
        log[level]({ err, stream, failures, waitMs: Math.round(waitMs) }, "consumer waits before it tries again");
        await pause(waitMs, signal);
      }
    }
  }

  async function nextBatch(blockMs: number): Promise<Entry[]> {
    const due = [...retryAt].filter(([, at]) => at <= Date.now()).map(([id]) => id).slice(0, batchSize);
    if (due.length > 0) return take(due);
    if (Date.now() >= nextClaimAt) {
      const abandoned = await claimAbandoned();
      if (abandoned.length > 0) return abandoned;
      nextClaimAt = Date.now() + Math.min(CLAIM_EVERY_MS, claimIdleMs);
    }
    return readNew(retryAt.size > 0 ? Math.min(blockMs, 100) : blockMs);
  }

  /** Takes our own pending entries again. One that is no longer in the stream was settled by somebody else. */
  async function take(ids: string[]): Promise<Entry[]> {
    for (const id of ids) retryAt.delete(id);
    return withGroup([], async () => parseEntries(await command(redis.xclaim(stream, group, name, 0, ...ids))));
  }

  async function claimAbandoned(): Promise<Entry[]> {
    return withGroup([], async () => {
      const reply = await command(redis.xautoclaim(stream, group, name, claimIdleMs, "0", "COUNT", batchSize));
      const entries = parseEntries(reply[1]).filter(({ id }) => !retryAt.has(id)); // ours, waiting for their time
      if (entries.length > 0) log.warn({ stream, entries: entries.length }, "took over entries that a consumer left");
      return entries;
    });
  }

  async function readNew(blockMs: number): Promise<Entry[]> {
    return withGroup([], async () => {
      const reply = await command(
        blocking.xreadgroup("GROUP", group, name, "COUNT", batchSize, "BLOCK", Math.max(1, blockMs), "STREAMS", stream, ">"));
      const [, entries] = (reply as [string, unknown][] | null)?.[0] ?? [];
      return parseEntries(entries ?? []);
    });
  }

  /** For whoever asks what is being worked on. A Redis that is full refuses it, and only working on can empty that Redis. */
  async function markInHand(entries: Entry[]): Promise<void> {
    await redis.sadd(inHandKey(stream), ...entries.map(({ key }) => key)).catch((err: unknown) => {
      log.debug({ err, stream }, "the batch could not be marked as in hand");
    });
  }

  async function acknowledge(done: Entry[]): Promise<void> {
    if (done.length === 0) return;
    const ids = done.map(({ id }) => id);
    const replies = await command(redis.multi().xack(stream, group, ...ids).xdel(stream, ...ids).exec()).catch((error: unknown) => {
      if (!(error instanceof Error) || !/EXECABORT|OOM/.test(error.message)) throw error;
      // A full Redis takes nothing in a MULTI, but these two one by one. XDEL first: should we die in between, the
      // pending entry of a message that is gone is dropped by the next XAUTOCLAIM, while the other way round it stays for ever.
      return command(redis.pipeline().xdel(stream, ...ids).xack(stream, group, ...ids).exec());
    }) ?? [];
    for (const [error] of replies) if (error) await command(Promise.reject(error));
  }

  /** Resets the entries' idle time, so that nobody takes over a batch that is merely slow. */
  async function touch(entries: Entry[]): Promise<void> {
    await redis.xclaim(stream, group, name, 0, ...entries.map(({ id }) => id), "JUSTID").catch(() => {});
  }

  /**
   * The group goes away with FLUSHALL or a lost Redis; it is made again at the very beginning of the stream.
   * @returns `otherwise` when it had to be made
   */
  async function withGroup<T>(otherwise: T, read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof Error) || !/^(NOGROUP|UNBLOCKED|ERR no such key)/.test(error.message)) throw error;
      await command(redis.xgroup("CREATE", stream, group, "0", "MKSTREAM")).catch((exists: Error) => {
        if (!exists.message.startsWith("BUSYGROUP")) throw exists;
      });
      return otherwise;
    }
  }

  /** Removes the names of consumers that are long gone and hold nothing. */
  async function forgetDeadConsumers(): Promise<void> {
    await withGroup(undefined, async () => {
      const consumers = (await command(redis.xinfo("CONSUMERS", stream, group))) as unknown[][];
      for (const fields of consumers) {
        const of = (field: string) => fields[fields.indexOf(field) + 1];
        if (of("pending") === 0 && Number(of("idle")) > FORGET_CONSUMER_MS) {
          await command(redis.xgroup("DELCONSUMER", stream, group, String(of("name"))));
        }
      }
    });
  }

  /** Gives the name back, if nothing is pending under it; what is pending is for others to claim. */
  async function leave(): Promise<void> {
    const [pending] = (await redis.xpending(stream, group, "-", "+", 1, name).catch(() => [null])) as unknown[];
    if (pending === undefined) await redis.xgroup("DELCONSUMER", stream, group, name).catch(() => {});
  }

  return { runOnce, run, forgetDeadConsumers, leave };
}

/** Entries of a reply. One that was deleted while it was pending comes as null, or with no fields. */
export function parseEntries(reply: unknown): Entry[] {
  const entries: Entry[] = [];
  for (const item of reply as ([string, string[] | null] | null)[]) {
    const [id, fields] = item ?? [];
    if (!id || !fields) continue;
    const key = fields[fields.indexOf("key") + 1];
    const body = fields[fields.indexOf("body") + 1];
    entries.push({ id, key: fields.includes("key") ? key! : "", body: fields.includes("body") ? body! : "" });
  }
  return entries;
}
