import { createTurns } from "../core/turns.ts";
import { createMeasure, sha256Of } from "../objects/measure.ts";
import { adopts, Damaged, type ObjectStore } from "../objects/object-store.ts";
import type { Expected, Verifier } from "../objects/verify.ts";
import type { Damage } from "../files/damage.ts";
import type { Inbox } from "./inbox.ts";
import type { InboxRecord } from "./inbox-record.ts";
import { ItemTrouble } from "./item-trouble.ts";

const LARGE_AT_ONCE = 2; // each may hold a part or two of an S3 multipart upload in memory

export interface Storing {
  inbox: Inbox;
  storage: ObjectStore;
  verifier: Verifier;
  damage: Damage;
}

export interface Batch {
  /** Those objects of the batch that are known to be damaged; asked for while the first of them are being stored. */
  damaged(): Promise<Set<string>>;
  /** Aborted when the batch is given up: what has not begun does not begin. */
  signal: AbortSignal;
}

/**
 * Brings an upload's bytes into final storage under their content hash, verified on the way: what is stored under a
 * hash has that hash. The same bytes are stored once. An object that is there already is not believed but read (unless
 * it was lately), and replaced where it is damaged: the inbox's bytes may be the last good ones.
 */
export function createStoring({ inbox, storage, verifier, damage }: Storing) {
  const inTurn = createTurns(LARGE_AT_ONCE);

  /** @returns the object's key; @throws ItemTrouble when the bytes are not what was promised, Unavailable */
  async function storeObject({ manifest, bytes }: InboxRecord, batch: Batch): Promise<string> {
    const expected = { key: objectKey(manifest.sha256), sizeBytes: manifest.size_bytes, sha256: manifest.sha256 };
    if (bytes) {
      if (bytes.length !== manifest.size_bytes || sha256Of(bytes) !== manifest.sha256) throw damaged();
      await storeOnce(expected, batch, (options) => storage.put(expected.key, bytes, options));
      return expected.key;
    }
    return inTurn(async () => {
      batch.signal.throwIfAborted();
      const isThere = await storage.head(expected.key); // else its bytes would be sent for nothing
      await storeOnce(expected, batch, (options) => (
        isThere && options.ifAbsent ? Promise.resolve({ stored: false }) : storeBlob(expected, manifest.blob_key!, options)
      ));
      return expected.key;
    });
  }

  async function storeOnce(expected: Expected, batch: Batch, store: (options: { ifAbsent: boolean }) => Promise<{ stored: boolean }>): Promise<void> {
    const { stored } = await store({ ifAbsent: true });
    const known = (await batch.damaged()).has(expected.key);
    if (stored && known) await damage.check(expected, "settle"); // it was missing, and is there again
    if (stored || (!known && (await verifier.verify(expected)).good)) return;
    await damage.repair(expected, () => store({ ifAbsent: false }));
  }

  async function storeBlob({ key, sha256 }: Expected, blobKey: string, options: { ifAbsent: boolean }): Promise<{ stored: boolean }> {
    // Only a store of the same kind can be adopted from; from another one verifying first would fetch every byte twice.
    if (adopts(storage) && inbox.store.kind === storage.kind) {
      await verify(await openBlob(blobKey), sha256);
      const adopted = await storage.adopt(key, inbox.store, blobKey, options);
      if (adopted) return adopted;
    }
    return storage.put(key, verified(await openBlob(blobKey), sha256), options);
  }

  async function openBlob(blobKey: string): Promise<AsyncIterable<Uint8Array>> {
    const blob = await inbox.store.read(blobKey).catch(asTrouble);
    if (!blob) throw missing();
    return blob.stream;
  }

  return storeObject;
}

/** No user text, and spread over 256 prefixes. */
export function objectKey(sha256: string): string {
  return `sha256/${sha256.slice(0, 2)}/${sha256}`;
}

async function verify(stream: AsyncIterable<Uint8Array>, sha256: string): Promise<void> {
  for await (const _ of verified(stream, sha256)) {
    // the generator throws at the end if the hash is another
  }
}

/** Passes the bytes through and throws at their end when they have another hash, so that the store keeps nothing. */
async function* verified(stream: AsyncIterable<Uint8Array>, sha256: string): AsyncGenerator<Uint8Array> {
  const measure = createMeasure();
  const iterator = stream[Symbol.asyncIterator]();
  try {
    for (let next = await iterator.next().catch(asTrouble); !next.done; next = await iterator.next().catch(asTrouble)) {
      measure.update(next.value);
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
  if (measure.sha256() !== sha256) throw damaged();
}

function damaged(options?: ErrorOptions): ItemTrouble {
  return new ItemTrouble("INBOX_BYTES_DAMAGED", "The bytes in the inbox are not those that were acknowledged.", options);
}

function missing(options?: ErrorOptions): ItemTrouble {
  return new ItemTrouble("INBOX_BLOB_MISSING", "The upload's bytes are missing from the inbox.", options);
}

/** Damage that the inbox itself saw, a file that is too short or gone, is the upload's own trouble. */
function asTrouble(error: unknown): never {
  if (!(error instanceof Damaged)) throw error;
  throw error.problem === "missing" ? missing({ cause: error }) : damaged({ cause: error });
}
