import { Redis, type RedisOptions } from "ioredis";
import { Unavailable } from "../core/errors.ts";
import type { Log } from "../core/log.ts";

const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_MOST_MS = 2_000;

/**
 * A client for commands that answer at once. With Redis down they fail at once too: ioredis would otherwise queue them
 * in memory and fail each after more than a minute.
 * @param commandTimeoutMs  how long a command may take before it counts as failed (it may still be carried out)
 */
export function openRedis({ url, commandTimeoutMs, log }: { url: string; commandTimeoutMs: number; log: Log }): Redis {
  return connect(url, log, {
    enableOfflineQueue: false,
    enableAutoPipelining: true,
    maxRetriesPerRequest: 1,
    commandTimeout: commandTimeoutMs,
    // A command that timed out stays in memory for its reply. Of a connection that is silent for this long no reply is
    // expected any more: it is given up, and commands fail at once, instead of each in its time, until there is a new one.
    socketTimeout: 2 * commandTimeoutMs,
    autoResendUnfulfilledCommands: false,
  });
}

/** A client of its own for blocking reads: they hold up every other command on their connection. */
export function openBlockingRedis({ url, log }: { url: string; log: Log }): Redis {
  return connect(url, log, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: null,
    autoResendUnfulfilledCommands: false,
    blockingTimeout: 1, // on: the client gives a blocking read up when its own BLOCK time and the grace have passed
    blockingTimeoutGrace: 2_000,
  });
}

function connect(url: string, log: Log, options: RedisOptions): Redis {
  const redis = new Redis(url, {
    ...options,
    protocol: 2, // with RESP3 a stream read is a map, and its shape depends on the reply mapping
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: (attempt) => Math.min(RECONNECT_MOST_MS, attempt * 50),
  });
  let reachable = true;
  redis.on("error", (err) => {
    if (reachable) log.warn({ err }, "redis is not reachable");
    reachable = false;
  });
  redis.on("ready", () => {
    if (!reachable) log.info("redis is reachable again");
    reachable = true;
  });
  return redis;
}

/** Resolves when the client is connected, or after `timeoutMs` without: who uses it copes with either. */
export function whenReady(redis: Redis, timeoutMs: number): Promise<void> {
  if (redis.status === "ready") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, timeoutMs);
    redis.once("ready", done);
    function done() {
      clearTimeout(timer);
      redis.off("ready", done);
      resolve();
    }
  });
}

/** Ends the connection: politely when there is one, at once otherwise. */
export async function closeRedis(redis: Redis): Promise<void> {
  if (redis.status === "ready") await redis.quit().catch(() => {});
  redis.disconnect();
}

/**
 * Whatever Redis does not do becomes Unavailable: it cannot be reached, cannot take commands now, or refuses this one
 * (`refused`: a key of ours that somebody else wrote to, a provider's quota, a command it does not have). Only replies
 * that the consumer knows how to go on from stay what they are.
 */
export async function command<T>(reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (error) {
    throw translate(error);
  }
}

const NOT_NOW = /^(OOM|LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|BUSY|MISCONF|NOREPLICAS|TRYAGAIN|NOAUTH|WRONGPASS|NOPERM)\b/;
const EXPECTED = /^(NOGROUP|BUSYGROUP|UNBLOCKED|EXECABORT|ERR no such key)\b/;

function translate(error: unknown): unknown {
  if (error instanceof Unavailable) return error;
  if (!(error instanceof Error) || error.name !== "ReplyError") return new Unavailable("redis", { cause: error });
  if (EXPECTED.test(error.message)) return error;
  return new Unavailable("redis", { cause: error, full: error.message.startsWith("OOM"), refused: !NOT_NOW.test(error.message) });
}
