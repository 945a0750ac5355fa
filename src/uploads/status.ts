import type { Redis } from "ioredis";
import { Failure, Unavailable } from "../core/errors.ts";
import { isId } from "../core/ids.ts";
import type { Db } from "../db/pool.ts";
import type { Files, ListedFile, ServableFile, Unsettled } from "../files/files.ts";
import type { Log } from "../core/log.ts";
import { Damaged } from "../objects/object-store.ts";
import { createVerifier, type Verifier } from "../objects/verify.ts";
import { inHand, newestEntries } from "../stream/backlog.ts";
import type { Inbox } from "./inbox.ts";
import type { InboxRecord } from "./inbox-record.ts";
import { Manifest, readManifest } from "./messages.ts";
import * as queries from "./dead-letters/dead-letter-queries.ts";

export interface UploadStatus {
  fileId: string;
  status: "accepted" | "settling" | "stored" | "failed";
  /** Null, as the size, the hash, the type and the time: a dead letter of which this is not known any more. */
  filename: string | null;
  sizeBytes: number | null;
  sha256: string | null;
  contentType: string | null;
  uploaderId: string | null;
  streamId: string | null;
  acceptedAt: Date | null;
  /** The ledger's; null until there is a ledger row. */
  eventTime: Date | null;
  storedAt: Date | null;
  /** Why it failed. */
  reason: string | null;
  attempts: number | null;
  /** There is something to download; not that it is undamaged. */
  downloadable: boolean;
  /** The first file of this owner with the same bytes, handed in before; null also while it is not stored. */
  identicalTo: Awaited<ReturnType<Files["findFirstTwin"]>>;
}

/** Uploads that wait in the inbox, dead letters among them, as the files slice serves them. */
export function createUnsettled({ inbox, db, redis, stream, log }: { inbox: Inbox; db: Db; redis: Redis; stream: string; log: Log }): Unsettled {
  const verifier = createVerifier({ store: inbox.store });
  return {
    /** Of the stream's entries, so one that only the inbox knows (Redis lost it) shows up once the reconciler queued it again. */
    async listWaiting(ownerId, most) {
      const entries = await newestEntries(redis, stream, most);
      return entries.flatMap(({ key, body, inHand }) => {
        const manifest = readManifest(body);
        return manifest?.upload_id === key && manifest.owner_id === ownerId ? toListed(manifest, inHand ? "settling" : "accepted") : [];
      });
    },
    async listFailed(ownerId, most) {
      return (await queries.selectDeadLetters(db, ownerId, most)).map(letterToListed);
    },
    async find(ownerId, id) {
      const record = await inbox.findUndamaged(id).catch(asFailure);
      return record?.manifest.owner_id === ownerId ? toServable(inbox, record, verifier, log) : undefined;
    },
  };
}

function toServable(inbox: Inbox, record: InboxRecord, verifier: Verifier, log: Log): ServableFile {
  const { manifest } = record;
  const report = (error: unknown) => {
    if (error instanceof Damaged) log.error({ uploadId: manifest.upload_id, reason: error.message }, "an upload is damaged in the inbox");
  };
  return {
    id: manifest.upload_id,
    name: manifest.filename,
    sizeBytes: manifest.size_bytes,
    sha256: manifest.sha256,
    contentType: manifest.content_type,
    uploaderId: manifest.uploader_id,
    eventTime: new Date(manifest.event_time),
    storedAt: null,
    problem: null,
    async open(range) {
      try {
        return (await inbox.open(record, verifier, range)).once("error", report);
      } catch (error) {
        if (error instanceof Damaged && error.problem === "missing" && !(await inbox.find(manifest.upload_id))) {
          throw new Failure("FILE_NOT_FOUND", "The upload was settled in this moment. Ask again.", { cause: error });
        }
        report(error);
        throw error;
      }
    },
  };
}

function toListed(manifest: Manifest, status: "accepted" | "settling" | "failed"): ListedFile {
  return {
    id: manifest.upload_id, status, name: manifest.filename, sizeBytes: manifest.size_bytes, sha256: manifest.sha256, contentType: manifest.content_type,
    uploaderId: manifest.uploader_id, eventTime: new Date(manifest.event_time), storedAt: null, problem: null, reason: null,
  };
}

function letterToListed(letter: queries.DeadLetter): ListedFile {
  const { data } = Manifest.safeParse(letter.message);
  if (data) return { ...toListed(data, "failed"), id: letter.uploadId, reason: letter.reason };
  return {
    id: letter.uploadId, status: "failed", name: letter.fileName, sizeBytes: letter.sizeBytes, sha256: letter.sha256, contentType: null,
    uploaderId: letter.uploaderId, eventTime: letter.firstFailedAt, storedAt: null, problem: null, reason: letter.reason,
  };
}

export type StatusReader = ReturnType<typeof createStatus>;

export function createStatus({ db, inbox, files, redis, stream }: {
  db: Db;
  inbox: Inbox;
  files: Pick<Files, "findStored" | "findFirstTwin">;
  redis: Redis;
  stream: string;
}) {
  /** Where an upload is, from the moment of its 202 on. @throws Failure FILE_NOT_FOUND, FILE_DAMAGED; Unavailable */
  return async function statusOf(ownerId: string, id: string): Promise<UploadStatus> {
    if (!isId(id)) throw new Failure("FILE_NOT_FOUND");
    // The inbox first; see Files.find. A settled upload may linger there for a moment, so the ledger has the last word.
    let damaged: Damaged | undefined;
    const record = await inbox.findUndamaged(id).catch((error: unknown) => {
      if (!(error instanceof Damaged)) throw error;
      damaged = error;
      return undefined;
    });
    const waiting = record?.manifest.owner_id === ownerId ? record.manifest : undefined;
    try {
      const file = await files.findStored(ownerId, id);
      if (file) {
        return {
          ...file, fileId: id, status: "stored", filename: file.name, acceptedAt: file.eventTime, reason: null, attempts: null, downloadable: true,
          identicalTo: await files.findFirstTwin(file),
        };
      }
      if (record && !waiting) throw new Failure("FILE_NOT_FOUND"); // somebody else's
      const dead = await queries.selectDeadLetter(db, ownerId, id);
      if (!waiting && dead) return fromLetter(dead);
      if (!waiting) throw damaged ? asFailure(damaged) : new Failure("FILE_NOT_FOUND");
      if (dead) return { ...fromManifest(waiting), status: "failed", reason: dead.reason, attempts: dead.attempts };
    } catch (error) {
      if (!(error instanceof Unavailable) || !waiting) throw error; // with the database down we still know it is safe
    }
    const settling = await inHand(redis, stream, id).catch(() => false);
    return { ...fromManifest(waiting), status: settling ? "settling" : "accepted" };
  };
}

/** Whose it is cannot be read any more; only who was given its id asks for it. */
function asFailure(error: unknown): never {
  throw error instanceof Damaged ? new Failure("FILE_DAMAGED", undefined, { cause: error }) : error;
}

function fromManifest(manifest: InboxRecord["manifest"]): Omit<UploadStatus, "status"> {
  return {
    fileId: manifest.upload_id,
    filename: manifest.filename,
    sizeBytes: manifest.size_bytes,
    sha256: manifest.sha256,
    contentType: manifest.content_type,
    uploaderId: manifest.uploader_id,
    streamId: null,
    acceptedAt: new Date(manifest.event_time),
    eventTime: null,
    storedAt: null,
    reason: null,
    attempts: null,
    downloadable: true,
    identicalTo: null,
  };
}

/** Of a dead letter whose record in the inbox is gone or cannot be read: what the letter knows. */
function fromLetter(letter: queries.DeadLetter): UploadStatus {
  const { data } = Manifest.safeParse(letter.message);
  return {
    fileId: letter.uploadId,
    status: "failed",
    filename: letter.fileName,
    sizeBytes: letter.sizeBytes,
    sha256: letter.sha256,
    contentType: data?.content_type ?? null,
    uploaderId: letter.uploaderId,
    streamId: null,
    acceptedAt: data ? new Date(data.event_time) : null,
    eventTime: null,
    storedAt: null,
    reason: letter.reason,
    attempts: letter.attempts,
    downloadable: false,
    identicalTo: null,
  };
}

/** The status as the API shows it. */
export function describeStatus(status: UploadStatus) {
  return {
    file_id: status.fileId,
    status: status.status,
    filename: status.filename,
    size: status.sizeBytes,
    sha256: status.sha256,
    stream_id: status.streamId,
    accepted_at: status.acceptedAt,
    event_time: status.eventTime,
    stored_at: status.storedAt,
    reason: status.reason,
    attempts: status.attempts,
    identical_to: status.identicalTo && { file_id: status.identicalTo.id, filename: status.identicalTo.name, event_time: status.identicalTo.eventTime },
    url: `/api/files/${status.fileId}`,
  };
}
