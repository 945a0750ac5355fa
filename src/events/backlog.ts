import type { Redis } from "ioredis";
import { Failure } from "../core/errors.ts";
import { backlogBytes } from "../stream/backlog.ts";
import { UNIT_BYTES, type Spool } from "./spool.ts";

export interface EventBacklogSettings {
  redis: Redis;
  stream: string;
  spool: Spool;
  /** Of Redis's memory that waiting events may take. */
  mostStreamBytes: number;
  /** Of the disk, or the bucket. */
  mostSpoolBytes: number;
  /** Between two looks into the spool; listing a bucket costs money. */
  lookEveryMs: number;
}

const RETRY_AFTER_SECONDS = 30;
/** A look may take one part in so many of the time. */
const PAUSE_PER_LOOK = 20;
const LOOK_AT_STREAM_EVERY_MS = 1_000;

export type EventBacklog = ReturnType<typeof createEventBacklog>;

/**
 * Knows about how much waits to be recorded, in the stream and in the spool; looked at only while events come. A Redis that
 * cannot be asked is no reason to close the door: whether it takes them it says itself.
 */
export function createEventBacklog({ redis, stream, spool, mostStreamBytes, mostSpoolBytes, lookEveryMs }: EventBacklogSettings) {
  let streamBytes = 0;
  let streamDueAt = Number.NEGATIVE_INFINITY;
  let spoolBytes = 0;
  let spoolDueAt = Number.NEGATIVE_INFINITY;
  let lookingAtSpool: Promise<void> | undefined;

  /** @throws Failure EVENTS_BACKLOG_FULL: the workers are behind, or there is none */
  function assertRoom(): void {
    const now = performance.now();
    if (now >= streamDueAt) {
      streamDueAt = now + LOOK_AT_STREAM_EVERY_MS;
      void backlogBytes(redis, stream).then((bytes) => { streamBytes = bytes; }, () => { streamBytes = 0; });
    }
    if (streamBytes >= mostStreamBytes) throw full();
  }

  /**
   * Room for so many bytes. What other processes put there is known from the last look.
   * @returns what gives it back, if they do not come after all
   * @throws Failure EVENTS_BACKLOG_FULL; Unavailable
   */
  async function reserveSpool(sizeBytes: number): Promise<() => void> {
    if (performance.now() >= spoolDueAt) await (lookingAtSpool ??= lookAtSpool().finally(() => (lookingAtSpool = undefined)));
    const takes = sizeBytes + UNIT_BYTES;
    if (spoolBytes + takes > mostSpoolBytes) throw full();
    spoolBytes += takes;
    return () => { spoolBytes -= takes; };
  }

  async function lookAtSpool(): Promise<void> {
    const beganAt = performance.now();
    spoolBytes = (await spool.weigh()).sizeBytes;
    const endedAt = performance.now();
    spoolDueAt = endedAt + Math.max(lookEveryMs, PAUSE_PER_LOOK * (endedAt - beganAt));
  }

  return { assertRoom, reserveSpool };
}

function full(): Failure {
  return new Failure("EVENTS_BACKLOG_FULL", undefined, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}
