// What was received in this tab, so that a reload, or "back" from a receipt, shows it again.
const PREFIX = "connectstorm.received:";
const MOST_KEPT = 200; // of some 600 bytes: far below the 5 MB that a page may keep

/** @param storage sessionStorage: another tab has its own */
export function createReceived(storage = storageOrNothing()) {
  const kept = recordsIn(storage); // the oldest first
  let lastOrder = kept.at(-1)?.order ?? 0;
  const orders = new Map(kept.map(({ fileId, order }) => [fileId, order]));

  return {
    all: () => kept,
    keep({ fileId, name, path, sizeBytes, lastModified, type, state, trouble, status }) {
      if (!orders.has(fileId)) orders.set(fileId, (lastOrder += 1));
      if (orders.size > MOST_KEPT) forget(orders.keys().next().value);
      try {
        storage.setItem(PREFIX + fileId, JSON.stringify({ fileId, name, path, sizeBytes, lastModified, type, state, trouble, status, order: orders.get(fileId) }));
      } catch {
        // Full or forbidden: then a reload loses it, as it would without this file.
      }
    },
    forget,
  };

  function forget(fileId) {
    orders.delete(fileId);
    storage.removeItem(PREFIX + fileId);
  }
}

function recordsIn(storage) {
  return Object.keys(storage).filter((key) => key.startsWith(PREFIX)).flatMap((key) => {
    try {
      const record = JSON.parse(storage.getItem(key));
      return Number.isFinite(record.order) && typeof record.name === "string" ? [record] : [];
    } catch {
      return [];
    }
  }).sort((a, b) => a.order - b.order);
}

function storageOrNothing() {
  try {
    return sessionStorage;
  } catch {
    return { setItem() {}, getItem: () => null, removeItem() {} };
  }
}
