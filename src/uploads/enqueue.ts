import type { Redis } from "ioredis";
import { Unavailable } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { append } from "../stream/append.ts";
import type { Manifest } from "./messages.ts";

export type Enqueue = ReturnType<typeof createEnqueue>;

/** Tells the workers of an upload. If that fails the upload is safe all the same: the reconciler finds it in the inbox. */
export function createEnqueue({ redis, stream, log }: { redis: Redis; stream: string; log: Log }) {
  /** @returns the stream's entry id; null while Redis is away */
  return async function enqueue(manifest: Manifest): Promise<string | null> {
    try {
      return await append(redis, stream, { key: manifest.upload_id, body: JSON.stringify(manifest) });
    } catch (err) {
      if (!(err instanceof Unavailable)) throw err;
      log.debug({ err, uploadId: manifest.upload_id }, "upload accepted without the stream");
      return null;
    }
  };
}
