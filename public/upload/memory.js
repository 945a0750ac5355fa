// Unfinished uploads, kept by the browser so that they can go on after a reload: what a file is called, not its bytes.
// (Browsers copy a file's bytes to keep them in IndexedDB: too dear for the large files that are worth resuming.)
import { createLocks } from "./locks.js";

const PREFIX = "connectstorm.upload:";
const KEPT_MS = 7 * 24 * 3600 * 1000; // the server gives up what nobody goes on with, and much earlier
const MOST_REMEMBERED = 200; // of some 300 bytes: far below the 5 MB that a page may keep

/** @param storage localStorage; where a browser forbids it, nothing is remembered and all else works */
export function createMemory(storage = storageOrNothing()) {
  const locks = createLocks(storage);

  return {
    remember(item) {
      const { url, idempotencyKey, name, path, sizeBytes, lastModified, type, sender } = item;
      try {
        storage.setItem(PREFIX + idOf(item), JSON.stringify({ url, idempotencyKey, name, path, sizeBytes, lastModified, type, sender, savedAt: Date.now() }));
      } catch {
        // Full or forbidden: then a reload loses it, as it would without this file.
      }
      void locks.claim(idOf(item));
    },
    forget({ url, idempotencyKey }) {
      for (const id of [url, idempotencyKey].filter(Boolean)) {
        storage.removeItem(PREFIX + id);
        locks.release(id);
      }
    },
    /** What was left unfinished and is not under way in another tab, oldest first. */
    async unfinished() {
      const found = [];
      for (const key of Object.keys(storage).filter((name) => name.startsWith(PREFIX))) {
        const record = parse(storage.getItem(key));
        if (!record || Date.now() - record.savedAt > KEPT_MS) storage.removeItem(key);
        else found.push(record);
      }
      found.sort((a, b) => a.savedAt - b.savedAt);
      for (const record of found.splice(0, Math.max(0, found.length - MOST_REMEMBERED))) storage.removeItem(PREFIX + idOf(record));
      const free = await Promise.all(found.map((record) => locks.claim(idOf(record))));
      return found.filter((_record, index) => free[index]);
    },
  };
}

/** Its address; before there is one, the key of the one request that a small file goes with. */
export function idOf({ url, idempotencyKey }) {
  return url ?? idempotencyKey;
}

function parse(text) {
  try {
    const record = JSON.parse(text);
    return typeof (record?.url ?? record?.idempotencyKey) === "string" && typeof record.name === "string" && Number.isFinite(record.savedAt) ? record : undefined;
  } catch {
    return undefined;
  }
}

function storageOrNothing() {
  try {
    return localStorage;
  } catch {
    return { setItem() {}, getItem: () => null, removeItem() {} };
  }
}
