import { createTurns } from "../core/turns.ts";
import { createMeasure, sha256Of } from "../objects/measure.ts";
import { adopts, type ObjectStore } from "../objects/object-store.ts";
import type { Inbox } from "./inbox.ts";
import type { InboxRecord } from "./inbox-record.ts";
import { ItemTrouble } from "./item-trouble.ts";

const LARGE_AT_ONCE = 2; // each may hold a part or two of an S3 multipart upload in memory

/**
 * Brings an upload's bytes into final storage under their content hash, verified on the way: what is stored under a
 * hash has that hash. The same bytes are stored once.
 */
export function createStoring({ inbox, storage }: { inbox: Inbox; storage: ObjectStore }) {
  const inTurn = createTurns(LARGE_AT_ONCE);

  /** @returns the object's key; @throws ItemTrouble when the bytes are not what was promised, Unavailable */
  async function storeObject({ manifest, bytes }: InboxRecord): Promise<string> {
    const key = objectKey(manifest.sha256);
    if (bytes) {
      if (bytes.length !== manifest.size_bytes || sha256Of(bytes) !== manifest.sha256) throw damaged();
      await storage.put(key, bytes, { ifAbsent: true });
      return key;
    }
    return inTurn(async () => {
      const present = await storage.head(key);
      if (present?.sizeBytes !== manifest.size_bytes) await storeBlob(key, manifest.blob_key!, manifest.sha256);
      return key;
    });
  }

  async function storeBlob(key: string, blobKey: string, sha256: string): Promise<void> {
    // Only a store of the same kind can be adopted from; from another one verifying first would fetch every byte twice.
    if (adopts(storage) && inbox.store.kind === storage.kind) {
      await verify(await openBlob(blobKey), sha256);
      if (await storage.adopt(key, inbox.store, blobKey)) return;
    }
    await storage.put(key, verified(await openBlob(blobKey), sha256), { ifAbsent: true });
  }

  async function openBlob(blobKey: string): Promise<AsyncIterable<Uint8Array>> {
    const blob = await inbox.store.read(blobKey);
    if (!blob) throw new ItemTrouble("INBOX_BLOB_MISSING", "The upload's bytes are missing from the inbox.");
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
  for await (const chunk of stream) {
    measure.update(chunk);
    yield chunk;
  }
  if (measure.sha256() !== sha256) throw damaged();
}

function damaged(): ItemTrouble {
  return new ItemTrouble("INBOX_BYTES_DAMAGED", "The bytes in the inbox are not those that were acknowledged.");
}
