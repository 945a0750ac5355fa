import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { Failure, Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { derivedId, newId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { within } from "../core/within.ts";
import type { Files } from "../files/files.ts";
import { append } from "../stream/append.ts";
import { command } from "../stream/redis.ts";
import { cleanFileName } from "./file-name.ts";
import { contentTypeOf } from "./file-types.ts";
import type { Inbox, Received } from "./inbox.ts";
import type { Manifest } from "./messages.ts";
import type { Tally } from "./tally.ts";

/** The answer to an upload, in the words of the API. `stream_id` is null while Redis is away; nothing is lost by it. */
export interface Receipt {
  success: true;
  message: string;
  filename: string;
  size: number;
  stream_id: string | null;
  file_id: string;
  sha256: string;
  status_url: string;
}

export interface Upload {
  accountId: string;
  received: Received;
  fileName: string;
  declaredType: string | undefined;
  uploaderId: string | null;
  idempotencyKey: string | undefined;
}

export interface AcceptSettings {
  inbox: Inbox;
  files: Pick<Files, "findStored">;
  redis: Redis;
  stream: string;
  secret: string;
  /** This start of this process, as it stands in manifests. */
  acceptedBy: string;
  tally: Tally;
  clock: Clock;
  log: Log;
}

const REMEMBER_STREAM_ID_SECONDS = 86_400;
const DATABASE_BUDGET_MS = 2_000; // an upload does not need the database, so it does not wait long for it

export type Accept = ReturnType<typeof createAccept>;

/** Every way in ends here: manifest, then stream, then receipt. */
export function createAccept({ inbox, files, redis, stream, secret, acceptedBy, tally, clock, log }: AcceptSettings) {
  /**
   * Promises the upload. What was received is the inbox's when this resolves, and discarded when it throws a Failure.
   * @throws Failure INVALID_FILE_NAME, IDEMPOTENCY_KEY_REUSED; Unavailable (the outcome is not known: the client tries again)
   */
  async function accept(upload: Upload): Promise<Receipt> {
    try {
      await failpoint("bytes-received");
      return await (upload.idempotencyKey === undefined ? acceptOnce(upload) : acceptUnderKey(upload, upload.idempotencyKey));
    } catch (error) {
      if (error instanceof Failure) await inbox.discard(upload.received);
      throw error;
    }
  }

  async function acceptOnce(upload: Upload): Promise<Receipt> {
    const { manifest } = await inbox.commit(describe(upload, newId()), upload.received);
    tally.add(manifest.size_bytes);
    return receiptOf(manifest, await enqueue(manifest));
  }

  /** The same key and the same bytes: the first upload's receipt again. The same key and other bytes: refused. */
  async function acceptUnderKey(upload: Upload, key: string): Promise<Receipt> {
    const id = derivedId(secret, upload.accountId, key);
    const settled = await within(DATABASE_BUDGET_MS, "postgres", files.findStored(upload.accountId, id)).catch(orWhenUnavailable(undefined));
    if (settled) {
      replay(settled.sha256, upload);
      await inbox.discard(upload.received);
      return receiptOf({ upload_id: id, filename: settled.name, size_bytes: settled.sizeBytes, sha256: settled.sha256 }, settled.streamId);
    }
    const { created, manifest } = await inbox.commit(describe(upload, id), upload.received);
    if (created) {
      tally.add(manifest.size_bytes);
    } else {
      replay(manifest.sha256, upload);
      if (manifest.blob_key !== upload.received.blobKey) await inbox.discard(upload.received);
    }
    return receiptOf(manifest, await enqueueOnce(manifest, created));
  }

  function replay(firstSha256: string, { received }: Upload): void {
    if (firstSha256 !== received.sha256) throw new Failure("IDEMPOTENCY_KEY_REUSED");
  }

  function describe({ accountId, received, fileName, declaredType, uploaderId }: Upload, id: string): Omit<Manifest, "blob_key"> {
    const filename = cleanFileName(fileName);
    return {
      upload_id: id,
      owner_id: accountId,
      filename,
      size_bytes: received.sizeBytes,
      sha256: received.sha256,
      content_type: contentTypeOf(received.sniffedType, declaredType, filename),
      uploader_id: uploaderId,
      event_time: clock.now().toISOString(),
      accepted_by: acceptedBy,
    };
  }

  /** Tells the worker. If that fails the upload is safe all the same: the reconciler finds it in the inbox. */
  async function enqueue(manifest: Manifest): Promise<string | null> {
    await failpoint("manifest-committed");
    try {
      const streamId = await append(redis, stream, { key: manifest.upload_id, body: JSON.stringify(manifest) });
      await failpoint("entry-appended");
      return streamId;
    } catch (err) {
      if (!(err instanceof Unavailable)) throw err;
      log.debug({ err, uploadId: manifest.upload_id }, "upload accepted without the stream");
      return null;
    }
  }

  /** Repeats answer with the first stream id while Redis remembers it; where it does not, the upload is queued again. */
  async function enqueueOnce(manifest: Manifest, first: boolean): Promise<string | null> {
    const memory = `${stream}:stream-id:${manifest.upload_id}`;
    if (!first) {
      const known = await command(redis.get(memory)).catch(orWhenUnavailable(null));
      if (known) return known;
    }
    const streamId = await enqueue(manifest);
    if (streamId) await command(redis.set(memory, streamId, "EX", REMEMBER_STREAM_ID_SECONDS)).catch(orWhenUnavailable(null));
    return streamId;
  }

  return { accept };
}

function orWhenUnavailable<T>(otherwise: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Unavailable) return otherwise;
    throw error;
  };
}

function receiptOf(manifest: Pick<Manifest, "upload_id" | "filename" | "size_bytes" | "sha256">, streamId: string | null): Receipt {
  return {
    success: true,
    message: "File uploaded and queued for processing",
    filename: manifest.filename,
    size: manifest.size_bytes,
    stream_id: streamId,
    file_id: manifest.upload_id,
    sha256: manifest.sha256,
    status_url: `/api/files/${manifest.upload_id}/status`,
  };
}
