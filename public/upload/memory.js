// Unfinished uploads, kept by the browser so that they can go on after a reload: what a file is called, not its bytes.
// (Browsers copy a file's bytes to keep them in IndexedDB: too dear for the large files that are worth resuming.)
const PREFIX = "connectstorm.upload:";
const KEPT_MS = 7 * 24 * 3600 * 1000; // the server gives up what nobody goes on with, and much earlier
const MOST_REMEMBERED = 200; // of some 300 bytes: far below the 5 MB that a page may keep

/** @param storage localStorage; where a browser forbids it, nothing is remembered and all else works */
export function createMemory(storage = storageOrNothing()) {
  const releases = new Map(); // upload's address -> gives up its lock

  return {
    remember({ url, name, path, sizeBytes, lastModified, type, sender }) {
      try {
        storage.setItem(PREFIX + url, JSON.stringify({ url, name, path, sizeBytes, lastModified, type, sender, savedAt: Date.now() }));
      } catch {
        // Full or forbidden: then a reload loses it, as it would without this file.
      }
      void claim(url);
    },
    forget(url) {
      storage.removeItem(PREFIX + url);
      releases.get(url)?.();
      releases.delete(url);
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
      for (const { url } of found.splice(0, Math.max(0, found.length - MOST_REMEMBERED))) storage.removeItem(PREFIX + url);
      const free = await Promise.all(found.map(({ url }) => claim(url)));
      return found.filter((_record, index) => free[index]);
    },
  };

  /** Two tabs must not send the same upload. Where there are no locks (plain HTTP to another host) they would, and get a 409. */
  function claim(url) {
    if (releases.has(url) || !navigator.locks) return Promise.resolve(true);
    return new Promise((resolve) => {
      navigator.locks.request(PREFIX + url, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        if (lock) return new Promise((release) => releases.set(url, release));
      }).catch(() => resolve(true));
    });
  }
}

function parse(text) {
  try {
    const record = JSON.parse(text);
    return typeof record?.url === "string" && typeof record.name === "string" && Number.isFinite(record.savedAt) ? record : undefined;
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
