import type { Redis } from "ioredis";
import type { Clock } from "../core/clock.ts";
import { Failure, Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { derivedId, newId } from "../core/ids.ts";
import { within } from "../core/within.ts";
import type { Db } from "../db/pool.ts";
import { command } from "../stream/redis.ts";
import type { DeadLetters } from "./dead-letters/dead-letters.ts";
import type { Enqueue } from "./enqueue.ts";
import { cleanFileName } from "./file-name.ts";
import { contentTypeOf } from "./file-types.ts";
import type { Committed, Inbox, Received } from "./inbox.ts";
import type { Manifest } from "./messages.ts";
import * as queries from "./queries.ts";
import type { Tally } from "./audit/tally.ts";

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
  /** Where the id was given before: of a resumable upload. It is a derived one, as this may be accepted again and again. */
  uploadId?: string;
}

export interface AcceptSettings {
  db: Db;
  inbox: Inbox;
  deadLetters: Pick<DeadLetters, "heal">;
  enqueue: Enqueue;
  redis: Redis;
  stream: string;
  secret: string;
  /** This start of this process, as it stands in manifests. */
  acceptedBy: string;
  tally: Tally;
  clock: Clock;
}

const UNKNOWN: queries.KnownUpload = { stored: undefined, dead: false };
const REMEMBER_STREAM_ID_SECONDS = 86_400;
const DATABASE_BUDGET_MS = 2_000; // an upload does not need the database, so it does not wait long for it

export type Accept = ReturnType<typeof createAccept>;

/** Every way in ends here: manifest, then stream, then receipt. */
export function createAccept({ db, inbox, deadLetters, enqueue, redis, stream, secret, acceptedBy, tally, clock }: AcceptSettings) {
  /**
   * Promises the upload. What was received is the inbox's when this resolves, and discarded when it throws a Failure.
   * @throws Failure INVALID_FILE_NAME, IDEMPOTENCY_KEY_REUSED; Unavailable (the outcome is not known: the client tries again)
   */
  async function accept(upload: Upload): Promise<Receipt> {
    try {
      await failpoint("bytes-received");
      const { idempotencyKey: key, uploadId = key === undefined ? undefined : derivedId(secret, upload.accountId, key) } = upload;
      return await (uploadId === undefined ? acceptOnce(upload) : acceptUnder(uploadId, upload));
    } catch (error) {
      if (error instanceof Failure) await inbox.discard(upload.received);
      throw error;
    }
  }

  async function acceptOnce(upload: Upload): Promise<Receipt> {
    const { manifest } = await commit(upload, newId());
    return receiptOf(manifest, await announce(manifest));
  }

  /**
   * The same id and the same bytes: the first upload's receipt again. The same id and other bytes: refused. Where the
   * first bytes were damaged or lost since, in the inbox or in storage, these take their place.
   */
  async function acceptUnder(id: string, upload: Upload): Promise<Receipt> {
    const { stored, dead } = await within(DATABASE_BUDGET_MS, "postgres", queries.selectKnown(db, upload.accountId, id)).catch(orWhenUnavailable(UNKNOWN));
    if (stored) replay(stored.sha256, upload);
    if (stored && !stored.damaged) { // else these bytes are good, and take the place of what rotted when they are settled
      await inbox.discard(upload.received);
      return receiptOf({ upload_id: id, filename: stored.name, size_bytes: stored.sizeBytes, sha256: stored.sha256 }, stored.streamId);
    }
    // With the database gone in the middle of it nobody knows whether these bytes are named already: the client has to ask again.
    const healed = dead && (await deadLetters.heal(describe(upload, id), upload.received));
    if (healed) return receiptOf(healed, await enqueueOnce(healed, true));
    const { outcome, manifest } = await commit(upload, id);
    if (outcome === "found") {
      replay(manifest.sha256, upload);
      if (manifest.blob_key !== upload.received.blobKey) await inbox.discard(upload.received);
    }
    return receiptOf(manifest, await enqueueOnce(manifest, outcome !== "found"));
  }

  /**
   * What was acknowledged under this id, by its SHA-256, whatever became of it since. Undefined: nothing was.
   * @throws Unavailable: nobody knows right now
   */
  async function promisedHash(accountId: string, id: string): Promise<string | undefined> {
    const manifest = await inbox.findManifest(id);
    if (manifest) return manifest.sha256;
    return (await within(DATABASE_BUDGET_MS, "postgres", queries.selectKnown(db, accountId, id))).stored?.sha256;
  }

  function commit(upload: Upload, id: string): Promise<Committed> {
    const manifest = describe(upload, id);
    return tally.counted(manifest.size_bytes, () => inbox.commit(manifest, upload.received));
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

  async function announce(manifest: Manifest): Promise<string | null> {
    await failpoint("manifest-committed");
    const streamId = await enqueue(manifest);
    if (streamId) await failpoint("entry-appended");
    return streamId;
  }

  /** Repeats answer with the first stream id while Redis remembers it; where it does not, the upload is queued again. */
  async function enqueueOnce(manifest: Manifest, first: boolean): Promise<string | null> {
    const memory = `${stream}:stream-id:${manifest.upload_id}`;
    if (!first) {
      const known = await command(redis.get(memory)).catch(() => null); // it is promised by now, whatever Redis says
      if (known) return known;
    }
    const streamId = await announce(manifest);
    if (streamId) await command(redis.set(memory, streamId, "EX", REMEMBER_STREAM_ID_SECONDS)).catch(() => null);
    return streamId;
  }

  return { accept, promisedHash };
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
