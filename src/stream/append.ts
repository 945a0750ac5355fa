import type { Redis } from "ioredis";
import { Unavailable } from "../core/errors.ts";
import { command } from "./redis.ts";

/** One entry of a stream: the key names what it is about, the body says it all, as JSON. */
export interface Message {
  key: string;
  body: string;
}

/**
 * Appends an entry. Never MAXLEN: it drops entries that nobody has read.
 * @returns the entry's id, e.g. "1762518600000-0"
 * @throws Unavailable within the client's command timeout
 */
export async function append(redis: Redis, stream: string, { key, body }: Message): Promise<string> {
  return (await command(redis.xadd(stream, "*", "key", key, "body", body)))!;
}

/**
 * Appends all of them or, when it throws, none; but after a reply that never came nobody knows.
 * @throws Unavailable, also where Redis is full
 */
export async function appendTogether(redis: Redis, stream: string, messages: readonly Message[]): Promise<void> {
  if (messages.length === 1) return void (await append(redis, stream, messages[0]!));
  const transaction = redis.multi();
  for (const { key, body } of messages) transaction.xadd(stream, "*", "key", key, "body", body);
  const replies = await command(transaction.exec()).catch((error: unknown) => {
    if (error instanceof Error && error.message.startsWith("EXECABORT")) throw new Unavailable("redis", { cause: error, full: true });
    throw error;
  });
  for (const [error] of replies ?? []) {
    if (error) await command(Promise.reject(error));
  }
}

/** Appends many in one round trip. */
export async function appendAll(redis: Redis, stream: string, messages: readonly Message[]): Promise<void> {
  if (messages.length === 0) return;
  const pipeline = redis.pipeline();
  for (const { key, body } of messages) pipeline.xadd(stream, "*", "key", key, "body", body);
  const replies = (await command(pipeline.exec())) ?? [];
  for (const [error] of replies) {
    if (error) await command(Promise.reject(error));
  }
}
