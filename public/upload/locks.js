// Two tabs must not send the same upload: whoever has its lock does. Browsers give locks to HTTPS and to this machine alone; for
// plain HTTP to another host the tabs keep marks in localStorage, which those who still live renew.
const PREFIX = "connectstorm.lock:";
const RENEWED_EVERY_MS = 5_000;
const DEAD_AFTER_MS = 90_000; // browsers let the timers of a hidden tab run once a minute

/** @returns claim: an id -> whether it is ours now; and release */
export function createLocks(storage) {
  return navigator.locks ? browserLocks() : marks(storage);
}

function browserLocks() {
  const releases = new Map(); // id -> gives its lock up, also one that is still to be given
  return {
    claim(id) {
      if (releases.has(id)) return Promise.resolve(true);
      let isGivenUp = false;
      releases.set(id, () => (isGivenUp = true));
      return new Promise((resolve) => {
        navigator.locks.request(`connectstorm.upload:${id}`, { ifAvailable: true }, (lock) => {
          resolve(lock !== null);
          if (!lock) releases.delete(id);
          if (lock && !isGivenUp) return new Promise((release) => releases.set(id, release));
        }).catch(() => resolve(true));
      });
    },
    release(id) {
      releases.get(id)?.();
      releases.delete(id);
    },
  };
}

function marks(storage) {
  const tab = String(Math.random());
  const ours = new Set();
  const isFree = (id) => {
    const [owner, at] = (storage.getItem(PREFIX + id) ?? "").split(" ");
    return !owner || owner === tab || !(Date.now() - Number(at) < DEAD_AFTER_MS);
  };
  const renew = (id) => {
    try {
      if (isFree(id)) storage.setItem(PREFIX + id, `${tab} ${Date.now()}`);
    } catch {
      // Full or forbidden: the server's word (409, 423) is left.
    }
  };
  for (const key of Object.keys(storage)) if (key.startsWith(PREFIX) && isFree(key.slice(PREFIX.length))) storage.removeItem(key);
  setInterval(() => ours.forEach(renew), RENEWED_EVERY_MS);
  addEventListener("pagehide", () => ours.forEach((id) => isFree(id) && storage.removeItem(PREFIX + id)));
  addEventListener("pageshow", () => ours.forEach(renew));

  return {
    async claim(id) {
      if (!isFree(id)) return false;
      ours.add(id);
      renew(id);
      return true;
    },
    release(id) {
      if (ours.delete(id) && isFree(id)) storage.removeItem(PREFIX + id);
    },
  };
}
