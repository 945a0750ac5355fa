import { Readable } from "node:stream";
import type { Clock } from "../core/clock.ts";
import { Failure, Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { isDerived, newId, nonce } from "../core/ids.ts";
import { collectUpTo } from "../http/collect.ts";
import { createMeasure, sha256Of, SNIFFED_BYTES, sniffType } from "../objects/measure.ts";
import { Damaged, type ByteRange, type ObjectStore } from "../objects/object-store.ts";
import type { Verifier } from "../objects/verify.ts";
import { checkFileType } from "./file-types.ts";
import { BLOBS, MANIFESTS } from "./inbox-keys.ts";
import { createInboxListing } from "./inbox-listing.ts";
import { encodeRecord, readManifestOf, readRecord, type InboxRecord } from "./inbox-record.ts";
import { REPLACED, type Manifest } from "./messages.ts";
import { restOf } from "./intake.ts";

/** Bytes that arrived whole and have no manifest yet: nobody was promised anything. */
export interface Received {
  sizeBytes: number;
  /** Hexadecimal. */
  sha256: string;
  /** MIME type by magic bytes. */
  sniffedType: string | undefined;
  /** A small upload, in memory until its manifest is written with it. */
  bytes: Uint8Array | undefined;
  /** A larger one: durable already, under this key. */
  blobKey: string | null;
  /** When that was. */
  blobAt?: Date;
  /** The blob is a resumable upload's, which keeps it until its manifest is there: nobody else discards it. */
  lent?: boolean;
}

export interface InboxSettings {
  store: ObjectStore;
  /** Up to this size the bytes are in the manifest's own record; larger ones are an object of their own. */
  smallObjectBytes: number;
  limitBytes: number;
  allowedTypes: readonly string[];
  /** A blob without a manifest is removed when it is older than this. */
  orphanAgeMs: number;
  clock: Clock;
}

/** What tells the manifests apart that may follow one another under one id. */
export type Settled = Pick<Manifest, "upload_id" | "blob_key"> & { sha256: string | undefined; event_time: string | undefined };

/** For an upload whose record cannot be read. */
export function unreadable(uploadId: string): Settled {
  return { upload_id: uploadId, blob_key: null, sha256: undefined, event_time: undefined };
}

const MANIFEST_BYTES = 4_096; // a manifest is shorter, unless its names are made of what JSON escapes
const MOST_COMMITS = 5; // each but the first because the manifest that was in the way is gone

/** `found`: a manifest was there before. `replaced`: one was, of which nothing could be read any more. */
export interface Committed {
  outcome: "created" | "found" | "replaced";
  /** What stands under the id now. */
  manifest: Manifest;
}

export type Inbox = ReturnType<typeof createInbox>;

/**
 * Where uploads wait, durable, from the moment they are acknowledged until they are settled. The commit protocol:
 * bytes first (receive), then the manifest, created only if there is none (commit). One record store does for both kinds
 * of inbox, a disk folder and an S3 bucket, because creating an object if absent is what either can do atomically.
 */
export function createInbox({ store, smallObjectBytes, limitBytes, allowedTypes, orphanAgeMs, clock }: InboxSettings) {
  const listing = createInboxListing({ store, clock, readManifestAt });

  /**
   * Takes the bytes in, once, as they come; at most `smallObjectBytes` of them are held in memory.
   * @param declaredType  what the client says the file is
   * @throws Failure FILE_TOO_LARGE as soon as the limit is passed, EMPTY_FILE, FILE_TYPE_NOT_ALLOWED; Unavailable
   */
  async function receive(source: Readable, declaredType: string | undefined): Promise<Received> {
    const { chunks, sizeBytes, ended } = await collectUpTo(source, Math.min(smallObjectBytes, limitBytes));
    if (sizeBytes > limitBytes) throw new Failure("FILE_TOO_LARGE");
    if (sizeBytes === 0) throw new Failure("EMPTY_FILE");
    if (ended) {
      const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, sizeBytes);
      const sniffedType = await sniffType(bytes);
      checkFileType(allowedTypes, sniffedType, declaredType, bytes);
      return { sizeBytes, sha256: sha256Of(bytes), sniffedType, bytes, blobKey: null };
    }
    const head = chunks[0]!.length >= SNIFFED_BYTES ? chunks[0]! : Buffer.concat(chunks, sizeBytes);
    const sniffedType = await sniffType(head);
    checkFileType(allowedTypes, sniffedType, declaredType, head);
    const measure = createMeasure();
    const blobKey = `${BLOBS}${newId()}-${nonce()}`;
    await store.put(blobKey, restOf(chunks, source, measure, limitBytes));
    return { sizeBytes: measure.sizeBytes, sha256: measure.sha256(), sniffedType, bytes: undefined, blobKey, blobAt: clock.now() };
  }

  /** Bytes that will not be committed. Failing is harmless: what has no manifest is swept after a day. */
  async function discard({ blobKey, lent = false }: Pick<Received, "blobKey" | "lent">): Promise<void> {
    if (blobKey !== null && !lent) await store.remove([blobKey]).catch(() => {});
  }

  /**
   * The commit point: once this resolves the upload is promised.
   * @throws Unavailable; then it is not known whether the manifest was written, and the blob must be left alone. Also where
   * the store contradicts itself: there is a manifest already, and there is none.
   * Failure UNAVAILABLE when so much time has passed since the bytes came that they may be swept in this moment.
   */
  async function commit(manifest: Omit<Manifest, "blob_key">, received: Received): Promise<Committed> {
    const wanted: Manifest = { ...manifest, blob_key: received.blobKey };
    for (let tries = 0; tries < MOST_COMMITS; tries++) {
      assertUnswept(received);
      if (await create(wanted, received)) return { outcome: "created", manifest: wanted };
      const existing = await readManifestAt(MANIFESTS + manifest.upload_id);
      const instead = { ...wanted, accepted_by: REPLACED };
      if (existing === "unreadable" && (await replaceUnless(() => true, instead, received))) return { outcome: "replaced", manifest: instead };
      if (typeof existing === "object") return { outcome: "found", manifest: existing };
      // Settled and removed in this very moment: the same id again, so the ledger will see that it has it already. Or another
      // one took the place of what could not be read.
    }
    throw new Unavailable("inbox", { cause: new Error("the store says that there is a manifest, and has none, again and again") });
  }

  /** @returns false: there is one */
  async function create(wanted: Manifest, { bytes }: Received): Promise<boolean> {
    return (await store.put(MANIFESTS + wanted.upload_id, encodeRecord(wanted, bytes), { ifAbsent: true })).stored;
  }

  function assertUnswept({ blobAt }: Received): void {
    if (!blobAt || clock.now().getTime() - blobAt.getTime() <= orphanAgeMs / 2) return;
    throw new Failure("UNAVAILABLE", "Too much time passed between the file and the end of its form. Try again.");
  }

  /**
   * Puts good bytes in the place of damaged or missing ones. What the old manifest named as its blob is the caller's to discard.
   * @param first  the manifest whose place it is; undefined: there was none that could be read
   * @returns undefined: another one stands there meanwhile, and stays
   * @throws Unavailable; then it is not known which manifest stands. Failure UNAVAILABLE as commit
   */
  async function replace(manifest: Omit<Manifest, "blob_key">, received: Received, first: Manifest | undefined): Promise<Manifest | undefined> {
    assertUnswept(received);
    const wanted: Manifest = { ...manifest, blob_key: received.blobKey };
    const isAnother = (there: Manifest) => !first || !isSame(first, there);
    if (await replaceUnless(isAnother, wanted, received)) return wanted;
    return (await create(wanted, received)) ? wanted : undefined;
  }

  /** @returns whether it took the place of what was there: false also where there was nothing */
  function replaceUnless(stays: (there: Manifest) => boolean, wanted: Manifest, received: Received): Promise<boolean> {
    const isMeant = (record: Uint8Array) => {
      const there = readRecord(record)?.manifest;
      return !there || !stays(there);
    };
    return store.replaceIf(MANIFESTS + wanted.upload_id, isMeant, encodeRecord(wanted, received.bytes));
  }

  /** Undefined: there is none, or none that can be read (a damaged record, which becomes a dead letter). */
  async function find(uploadId: string): Promise<InboxRecord | undefined> {
    return findUndamaged(uploadId).catch((error: unknown) => {
      if (error instanceof Damaged) return undefined;
      throw error;
    });
  }

  /** As find, for whoever has to tell the two apart. @throws Damaged when what is there cannot be read; Unavailable */
  async function findUndamaged(uploadId: string): Promise<InboxRecord | undefined> {
    const record = await store.readWhole(MANIFESTS + uploadId);
    const found = record && readRecord(record);
    if (record && !found) throw new Damaged("hash", "the inbox's record of this upload cannot be read");
    return found;
  }

  /**
   * The manifest of an upload that can be tried again: it can be read, and the blob it names is there, to its last byte.
   * Not whether the bytes are the right ones. The last byte is read, as a disk's index does not know whether a file is there.
   * @throws Unavailable
   */
  async function findRetriable(uploadId: string): Promise<Manifest | undefined> {
    const manifest = await findManifest(uploadId);
    if (!manifest || manifest.blob_key === null) return manifest;
    try {
      const found = await store.read(manifest.blob_key, { start: manifest.size_bytes - 1 });
      await found?.stream.toArray();
      return found?.sizeBytes === manifest.size_bytes ? manifest : undefined;
    } catch (error) {
      if (error instanceof Damaged) return undefined;
      throw error;
    }
  }

  /**
   * The manifest without the bytes beside it.
   * @returns undefined: there is none, or what is there is damaged beyond reading
   */
  async function findManifest(uploadId: string): Promise<Manifest | undefined> {
    const found = await readManifestAt(MANIFESTS + uploadId);
    return found === "unreadable" ? undefined : found;
  }

  async function readManifestAt(key: string): Promise<Manifest | "unreadable" | undefined> {
    try {
      const found = await store.read(key, { start: 0, end: MANIFEST_BYTES - 1 });
      if (!found) return undefined;
      const head = Buffer.concat((await found.stream.toArray()) as Uint8Array[]);
      const manifest = readManifestOf(head);
      if (manifest || found.sizeBytes <= head.length) return manifest ?? "unreadable";
      const whole = await store.readWhole(key);
      return whole && (readManifestOf(whole) ?? "unreadable");
    } catch (error) {
      if (error instanceof Damaged) return "unreadable";
      throw error;
    }
  }

  /**
   * The bytes of an upload that waits, as they were acknowledged.
   * @param verifier  of this inbox's store
   * @throws Damaged, also "missing" where it was settled meanwhile; Unavailable
   */
  async function open({ manifest, bytes }: InboxRecord, verifier: Verifier, range?: ByteRange): Promise<Readable> {
    const { blob_key: key, sha256, size_bytes: sizeBytes } = manifest;
    if (key !== null) return verifier.open({ key, sha256, sizeBytes }, range);
    if (bytes!.length !== sizeBytes || sha256Of(bytes!) !== sha256) throw new Damaged("hash", "these are not the bytes that were acknowledged");
    return Readable.from([bytes!.subarray(range?.start ?? 0, (range?.end ?? sizeBytes - 1) + 1)]);
  }

  /**
   * Takes settled uploads out: manifests first, so that none is ever left without its bytes. Under an id that was derived
   * from an Idempotency-Key other bytes may have come in meanwhile, should another process have settled and removed these.
   * They are a promise of their own and stay.
   */
  async function remove(manifests: readonly Settled[]): Promise<void> {
    const once = manifests.filter(({ upload_id }) => !isDerived(upload_id)).map(({ upload_id }) => MANIFESTS + upload_id);
    const derived = manifests.filter(({ upload_id }) => isDerived(upload_id));
    await Promise.all([
      once.length > 0 && store.remove(once),
      ...derived.map((settled) => store.removeIf(MANIFESTS + settled.upload_id, (record) => isOf(settled, readRecord(record)?.manifest))),
    ]);
    await failpoint("manifests-removed");
    const blobs = manifests.flatMap(({ blob_key }) => (blob_key === null ? [] : [blob_key]));
    if (blobs.length > 0) await store.remove(blobs);
  }

  return { store, receive, discard, commit, replace, find, findUndamaged, findManifest, findRetriable, open, remove, ...listing };
}

/** A manifest that cannot be read is nobody's promise any more. */
function isOf(settled: Settled, manifest: Manifest | undefined): boolean {
  return !manifest || isSame(settled, manifest);
}

function isSame(one: Settled, other: Settled): boolean {
  return one.sha256 === other.sha256 && one.blob_key === other.blob_key && one.event_time === other.event_time;
}
