import { NO_GROUP, TICKS, unlessUnavailable, type Entry, type Manifest, type Sha, type Steps, type World } from "./world.ts";

/** The worker's part: src/stream/consumer.ts, src/uploads/settle.ts, store-object.ts and queries.ts, a round trip a step. */

interface Item {
  entry: Entry;
  manifest: Manifest;
  /** The moment in which its object was written or read last. */
  seenGood?: number;
}

const BATCH = 3;
const MOST_ATTEMPTS = 3;

/** Repeats runOnce for ever, as Consumer.run does. `inHand` tells how many entries it works on. */
export function* worker(world: World, name: string, hand: { entries: number }): Steps<never> {
  const retryAt = new Map<number, number>();
  for (;;) {
    yield;
    try {
      yield* runOnce(world, name, retryAt, hand);
    } catch (error) {
      unlessUnavailable(error, undefined);
    }
    hand.entries = 0;
  }
}

function* runOnce(world: World, name: string, retryAt: Map<number, number>, hand: { entries: number }): Steps<void> {
  const entries = yield* nextBatch(world, name, retryAt);
  if (entries.length === 0) return;
  hand.entries = entries.length;
  try {
    yield "batch-read";
    if (!world.protocol.acknowledgedLast) yield* acknowledge(world, entries);
    const again = yield* settle(world, entries);
    for (const id of again) retryAt.set(id, world.now + TICKS.retry);
    yield* acknowledge(world, entries.filter(({ id }) => !again.has(id)));
    yield "batch-acknowledged";
  } catch (error) {
    for (const { id } of entries) retryAt.set(id, world.now);
    throw error;
  }
}

function* nextBatch(world: World, name: string, retryAt: Map<number, number>): Steps<Entry[]> {
  const due = [...retryAt].filter(([, at]) => at <= world.now).map(([id]) => id).slice(0, BATCH);
  if (due.length > 0) {
    for (const id of due) retryAt.delete(id);
    return yield* withGroup(world, () => claim(world, name, due));
  }
  const abandoned = yield* withGroup(world, () => {
    const idle = [...world.group().pending].filter(([, { since }]) => world.now - since >= TICKS.claimIdle).map(([id]) => id).slice(0, BATCH);
    return claim(world, name, idle);
  });
  const others = abandoned.filter(({ id }) => !retryAt.has(id));
  if (others.length > 0) return others;
  return yield* withGroup(world, () => {
    const group = world.group();
    const fresh = world.redis().stream.filter(({ id }) => id > group.delivered).slice(0, BATCH);
    for (const { id } of fresh) {
      group.pending.set(id, { owner: name, since: world.now });
      group.delivered = id;
    }
    return fresh;
  });
}

/** XCLAIM and XAUTOCLAIM: what is pending and still in the stream is ours now; what is not there is forgotten. */
function claim(world: World, name: string, ids: number[]): Entry[] {
  const { pending } = world.group();
  const claimed: Entry[] = [];
  for (const id of ids) {
    if (!pending.has(id)) continue;
    const entry = world.redis().stream.find((one) => one.id === id);
    if (entry) {
      pending.set(id, { owner: name, since: world.now });
      claimed.push(entry);
    } else {
      pending.delete(id);
    }
  }
  return claimed;
}

function* withGroup(world: World, read: () => Entry[]): Steps<Entry[]> {
  try {
    return yield* world.call("redis", read);
  } catch (error) {
    if (!(error instanceof Error) || error.message !== NO_GROUP) throw error;
    yield* world.call("redis", () => world.createGroup());
    return [];
  }
}

function* acknowledge(world: World, done: Entry[]): Steps<void> {
  if (done.length === 0) return;
  const ids = new Set(done.map(({ id }) => id));
  yield* world.call("redis", () => {
    const redis = world.redis();
    for (const id of ids) redis.group?.pending.delete(id);
    redis.stream = redis.stream.filter(({ id }) => !ids.has(id));
  });
}

function* settle(world: World, entries: Entry[]): Steps<Set<number>> {
  const again = new Set<number>();
  const once = [...new Map(entries.map((entry) => [entry.key, entry])).values()];
  const items: Item[] = [];
  const missing: Entry[] = [];
  for (const entry of once) {
    const manifest = yield* world.call("inbox", () => world.inbox.manifests.get(entry.key));
    if (manifest) items.push({ entry, manifest });
    else missing.push(entry);
  }
  if (missing.length > 0) {
    const finished = yield* world.call("postgres", () => new Set(missing.filter(({ key }) => world.files.has(key) || world.dead.has(key))));
    const discarded = yield* world.call("postgres", () => new Set(missing.filter(({ acceptance }) => isDiscarded(world, acceptance))));
    for (const entry of missing) if (!finished.has(entry) && !discarded.has(entry)) yield* spendAttempt(world, entry, undefined, "INBOX_ENTRY_MISSING", again);
  }
  yield "records-read";
  const stored = yield* storeObjects(world, items, again);
  yield "objects-stored";
  yield* settleItems(world, stored, again);
  return again;
}

function* storeObjects(world: World, items: Item[], again: Set<number>): Steps<Item[]> {
  const stored: Item[] = [];
  for (const item of items) {
    let code: string | undefined;
    try {
      code = yield* storeObject(world, item);
    } catch (error) {
      if (world.protocol.infrastructureSpendsNothing) throw error;
      code = unlessUnavailable(error, "SETTLE_FAILED");
    }
    if (code === undefined) stored.push(item);
    else yield* spendAttempt(world, item.entry, item.manifest, code, again);
  }
  return stored;
}

/** @returns what is wrong with the item, if anything is */
function* storeObject(world: World, item: Item): Steps<string | undefined> {
  const { sha, blobKey, content } = item.manifest;
  if (blobKey === null && content !== sha && world.protocol.verified) return "INBOX_BYTES_DAMAGED";
  if (!(yield* world.call("storage", () => world.storage.has(sha)))) {
    const found = yield* readBytes(world, item);
    if ("code" in found) return found.code;
    const stored = yield* world.call("storage", () => !world.storage.has(sha) && write(world, item, found.bytes));
    if (stored) return undefined;
  }
  const known = yield* world.call("postgres", () => world.damaged.has(sha));
  if (!known && (yield* isGood(world, item))) return undefined;
  return yield* repair(world, item);
}

/** Good bytes in the place of an object that proved damaged. */
function* repair(world: World, item: Item): Steps<string | undefined> {
  const { sha } = item.manifest;
  if (!(yield* isGood(world, item))) {
    yield* world.call("postgres", () => world.damaged.add(sha));
    yield "damage-recorded";
    const found = yield* readBytes(world, item);
    if ("code" in found) return found.code;
    yield* world.call("storage", () => write(world, item, found.bytes));
    yield "object-replaced";
  }
  yield* world.call("postgres", () => world.damaged.delete(sha));
  return undefined;
}

function* isGood(world: World, item: Item): Steps<boolean> {
  return yield* world.call("storage", () => {
    item.seenGood = ++world.moment;
    return world.storage.get(item.manifest.sha) === item.manifest.sha || !world.protocol.readBeforeBelieved;
  });
}

function write(world: World, item: Item, bytes: string): true {
  item.seenGood = ++world.moment;
  world.storage.set(item.manifest.sha, bytes);
  world.rottenObjects.delete(item.manifest.sha);
  return true;
}

function* readBytes(world: World, { manifest: { sha, blobKey, content } }: Item): Steps<{ bytes: string } | { code: string }> {
  const bytes = blobKey === null ? content : yield* world.call("inbox", () => world.inbox.blobs.get(blobKey)?.content);
  if (bytes === undefined) return { code: "INBOX_BLOB_MISSING" };
  return bytes !== sha && world.protocol.verified ? { code: "INBOX_BYTES_DAMAGED" } : { bytes };
}

function* settleItems(world: World, items: Item[], again: Set<number>): Steps<void> {
  if (items.length === 0) return;
  if (!world.protocol.removedAfterCommit) yield* removeSettled(world, items.map(({ manifest }) => manifest));
  let fresh: Set<string> | undefined;
  fresh = yield* world.changing(items.map(({ manifest }) => manifest.id), () => insertSettled(world, items));
  if (!fresh) {
    if (items.length === 1) return yield* spendAttempt(world, items[0]!.entry, items[0]!.manifest, "SETTLE_FAILED", again);
    const middle = items.length >> 1;
    yield* settleItems(world, items.slice(0, middle), again);
    return yield* settleItems(world, items.slice(middle), again);
  }
  yield "rows-committed";
  const settled = yield* withoutImpostors(world, items, fresh, again);
  yield* removeSettled(world, settled.map(({ manifest }) => manifest));
  yield "inbox-removed";
}

/** @returns undefined where the database refuses the set: nothing of it is done */
function insertSettled(world: World, items: Item[]): Set<string> | undefined {
  if (items.some(({ manifest }) => manifest.sha === "refused")) return undefined;
  const fresh = items.filter(({ manifest }) => (!world.files.has(manifest.id) || !world.protocol.primaryKey) && !isDiscarded(world, manifest.acceptance));
  for (const { manifest, seenGood = 0 } of fresh) {
    if ((world.rottenObjects.get(manifest.sha) ?? Infinity) < seenGood) world.swallowed.add(manifest.id);
    world.files.set(manifest.id, manifest.sha);
    world.settled.set(manifest.id, manifest.acceptance);
    world.ledger.push(manifest.id);
    world.attempts.delete(manifest.id);
    world.dead.delete(manifest.id);
  }
  return new Set(fresh.map(({ manifest }) => manifest.id));
}

function* withoutImpostors(world: World, items: Item[], fresh: Set<string>, again: Set<number>): Steps<Item[]> {
  const seen = items.filter(({ manifest }) => !fresh.has(manifest.id));
  if (seen.length === 0 || !world.protocol.impostorsKept) return items;
  const hashes = yield* world.call("postgres", () => new Map(seen.map(({ manifest }) => [manifest.id, world.files.get(manifest.id)])));
  const others = seen.filter(({ manifest }) => hashes.get(manifest.id) !== manifest.sha);
  const discarded = yield* world.call("postgres", () => new Set(others.filter(({ manifest }) => isDiscarded(world, manifest.acceptance))));
  const impostors = others.filter((item) => !discarded.has(item));
  for (const { entry, manifest } of impostors) yield* spendAttempt(world, entry, manifest, "IDEMPOTENCY_KEY_REUSED", again);
  return items.filter((item) => !impostors.includes(item));
}

/** Inbox.remove: each manifest that still is what was settled, then the blobs. */
export function* removeSettled(world: World, manifests: Manifest[]): Steps<void> {
  const standing = new Map<string, Manifest | undefined>();
  if (!world.protocol.removedUnchanged) {
    // The way it was done before: look first, remove then.
    for (const { id } of manifests) standing.set(id, yield* world.call("inbox", () => world.inbox.manifests.get(id)));
  }
  for (const manifest of manifests) {
    yield* world.call("inbox", () => {
      const now = standing.has(manifest.id) ? standing.get(manifest.id) : world.inbox.manifests.get(manifest.id);
      if (now?.sha === manifest.sha && now.blobKey === manifest.blobKey && now.acceptance === manifest.acceptance) world.inbox.manifests.delete(manifest.id);
    });
  }
  yield "manifests-removed";
  const blobs = manifests.flatMap(({ blobKey }) => blobKey ?? []);
  if (blobs.length > 0) yield* world.call("inbox", () => blobs.forEach((blobKey) => world.inbox.blobs.delete(blobKey)));
}

function* spendAttempt(world: World, entry: Entry, manifest: Manifest | undefined, code: string, again: Set<number>): Steps<void> {
  const isFile = (sha: Sha | undefined) => world.protocol.attemptsOfOpenOnly && sha !== undefined && world.files.get(entry.key) === sha;
  yield "attempt-counted"; // within the transaction: whoever dies here has counted nothing
  const attempts = yield* world.changing([entry.key], () => {
    if (isFile(manifest?.sha)) return undefined;
    const counted = (world.attempts.get(entry.key) ?? 0) + 1;
    world.attempts.set(entry.key, counted);
    if (counted < MOST_ATTEMPTS || !world.protocol.attemptsLimited) return counted;
    world.attempts.delete(entry.key);
    const acceptance = manifest?.acceptance ?? entry.acceptance;
    if (isDiscarded(world, acceptance)) return counted;
    const before = world.dead.get(entry.key)?.described;
    world.dead.set(entry.key, { code, described: manifest ?? before });
    if (!world.protocol.deadLettersKeepBytes) world.inbox.manifests.delete(entry.key);
    return counted;
  });
  if (attempts === undefined) return;
  if (attempts < MOST_ATTEMPTS || !world.protocol.attemptsLimited) return void again.add(entry.id);
  yield "dead-letter-written";
}

function isDiscarded(world: World, acceptance: number | undefined): boolean {
  return world.protocol.discardedStaysGone && acceptance !== undefined && world.discarded.has(acceptance);
}
