import { setTimeout } from "node:timers/promises";
import { Unavailable } from "../core/errors.ts";
import { newId } from "../core/ids.ts";
import { command } from "../stream/redis.ts";
import type { Context } from "./context.ts";

/** An object of the inbox that tells one inbox from another. */
const IDENTITY = "identity";
const TRIES = 12;
const TRY_EVERY_MS = 250;

/** The web process says through Redis which inbox its uploads wait in; where that cannot be done now, nothing is checked. */
export async function announceInbox({ inbox, redis, config }: Context): Promise<void> {
  try {
    await inbox.store.put(IDENTITY, Buffer.from(newId()), { ifAbsent: true });
    const identity = (await inbox.store.readWhole(IDENTITY))!;
    await command(redis.set(keyOf(config.REDIS_PREFIX), Buffer.from(identity).toString()));
  } catch (error) {
    ignoreUnavailable(error);
  }
}

/**
 * A worker that looks into another inbox than the door writes to would find none of the uploads, and give each of
 * them up. It must not begin.
 * @throws Error in words for whoever set it up; nothing when Redis or the inbox cannot be asked
 */
export async function checkInbox({ inbox, redis, config }: Context): Promise<void> {
  // A web process that starts beside this one may be about to announce another inbox than Redis remembers.
  for (let tries = 0; tries < TRIES; tries++) {
    if (tries > 0) await setTimeout(TRY_EVERY_MS);
    try {
      const announced = await command(redis.get(keyOf(config.REDIS_PREFIX)));
      if (!announced) return;
      const found = await inbox.store.readWhole(IDENTITY);
      if (found && Buffer.from(found).toString() === announced) return;
    } catch (error) {
      return ignoreUnavailable(error);
    }
  }
  const where = config.INBOX === "disk" ? `INBOX_DIR=${config.INBOX_DIR}` : `S3_BUCKET=${config.S3_BUCKET}`;
  throw new Error(`This worker (INBOX=${config.INBOX}, ${where}) does not see the inbox that the web process writes to. `
    + "Give both the same folder on one disk, or use INBOX=s3 where they share none. Nothing is lost meanwhile.");
}

function keyOf(prefix: string): string {
  return `${prefix}inbox`;
}

function ignoreUnavailable(error: unknown): void {
  if (!(error instanceof Unavailable)) throw error;
}
