import type { Redis } from "ioredis";
import { Unavailable } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { append } from "../stream/append.ts";
import type { Manifest } from "./messages.ts";

const LOG_EVERY_MS = 60_000;

export type Enqueue = ReturnType<typeof createEnqueue>;

/** Tells the workers of an upload. If that fails the upload is safe all the same: the reconciler finds it in the inbox. */
export function createEnqueue({ redis, stream, log }: { redis: Redis; stream: string; log: Log }) {
  let [refused, loggedAt] = [0, Number.NEGATIVE_INFINITY];

  /** @returns the stream's entry id; null while Redis is away or refuses it. It never throws: the upload is promised by now */
  return async function enqueue(manifest: Manifest): Promise<string | null> {
    try {
      return await append(redis, stream, { key: manifest.upload_id, body: JSON.stringify(manifest) });
    } catch (err) {
      if (err instanceof Unavailable && !err.refused) log.debug({ err, uploadId: manifest.upload_id }, "upload accepted without the stream");
      else noteRefusal(err, manifest.upload_id);
      return null;
    }
  };

  /** Each upload meets it, maybe thousands a second. */
  function noteRefusal(err: unknown, uploadId: string): void {
    refused++;
    const now = performance.now();
    if (now - loggedAt < LOG_EVERY_MS) return;
    log.error({ err, uploadId, refused }, "redis refuses notes of uploads");
    [refused, loggedAt] = [0, now];
  }
}
