import { removeSettled } from "./worker.ts";
import { TICKS, unlessUnavailable, type Manifest, type Steps, type World } from "./world.ts";

/** The reconciler's part: src/uploads/reconcile.ts, Inbox.sweep and the sweep of files without a record. */

const PAGE = 2;
const MOST_PAGES = 2;
const SWEEP_EVERY = 20;

export interface ReconcilerState {
  nextAt: number;
  sweptAt: number;
}

export function* reconciler(world: World, name: string, state: ReconcilerState): Steps<never> {
  let after: string | undefined;
  for (;;) {
    yield;
    try {
      after = yield* runOnce(world, name, state, after);
    } catch (error) {
      unlessUnavailable(error, undefined);
    }
    if (world.reconcileLock === name) world.reconcileLock = undefined;
    state.nextAt = world.now + TICKS.reconcileEvery;
  }
}

function* runOnce(world: World, name: string, state: ReconcilerState, from: string | undefined): Steps<string | undefined> {
  const taken = yield* world.call("postgres", () => {
    if (world.reconcileLock) return false;
    world.reconcileLock = name;
    return true;
  });
  if (!taken) return from;
  let after = from;
  let queued: Set<string> | undefined;
  for (let page = 0; page < MOST_PAGES && world.protocol.reconciler; page++) {
    const { ids, next } = yield* world.call("inbox", () => listOlder(world, world.now - TICKS.reconcileAge, after));
    if (ids.length > 0) queued = yield* reconcilePage(world, ids, queued);
    after = next;
    if (!next) break;
  }
  if (world.now - state.sweptAt >= SWEEP_EVERY) {
    yield* sweep(world, world.now - TICKS.orphanAge);
    state.sweptAt = world.now;
  }
  return after;
}

function listOlder(world: World, before: number, after: string | undefined): { ids: string[]; next: string | undefined } {
  const page = [...world.inbox.manifests.values()].filter(({ id }) => after === undefined || id > after).sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, PAGE);
  return { ids: page.filter(({ at }) => at < before).map(({ id }) => id), next: page.length === PAGE ? page.at(-1)!.id : undefined };
}

function* reconcilePage(world: World, ids: string[], known: Set<string> | undefined): Steps<Set<string> | undefined> {
  yield "inbox-listed";
  const { stored, dead } = yield* world.call("postgres", () => ({
    stored: new Set(ids.filter((id) => world.files.has(id) && world.protocol.reconcilerAsksLedger)),
    dead: new Set(ids.filter((id) => world.dead.has(id) && world.protocol.reconcilerAsksLedger)),
  }));
  const removed = yield* removeStored(world, ids.filter((id) => stored.has(id)));
  yield "settled-removed";
  const open = ids.filter((id) => !removed.has(id) && !dead.has(id));
  if (open.length === 0) return known;
  const queued = known ?? (yield* world.call("redis", () => new Set(world.redis().stream.map(({ key }) => key))));
  const lost = yield* find(world, open.filter((id) => !queued.has(id)));
  if (lost.length > 0) {
    yield* world.call("redis", () => lost.forEach(({ id, acceptance }) => world.append(id, acceptance)));
    yield "uploads-requeued";
  }
  return queued;
}

function* removeStored(world: World, ids: string[]): Steps<Set<string>> {
  if (ids.length === 0) return new Set();
  const hashes = yield* world.call("postgres", () => new Map(ids.map((id) => [id, world.files.get(id)])));
  const same = (yield* find(world, ids)).filter(({ id, sha }) => hashes.get(id) === sha || !world.protocol.impostorsKept);
  yield* removeSettled(world, same);
  return new Set(same.map(({ id }) => id));
}

function* find(world: World, ids: string[]): Steps<Manifest[]> {
  const found: Manifest[] = [];
  for (const id of ids) {
    const manifest = yield* world.call("inbox", () => world.inbox.manifests.get(id));
    if (manifest) found.push(manifest);
  }
  return found;
}

function* sweep(world: World, before: number): Steps<void> {
  const old = (at: number) => at < before || !world.protocol.sweepsOldOnly;
  yield* world.call("inbox", () => {
    for (const [file, at] of world.inbox.files) if (old(at)) world.inbox.files.delete(file);
  });
  const orphans = yield* world.call("inbox", () => new Set([...world.inbox.blobs].filter(([, { at }]) => old(at)).map(([key]) => key)));
  if (orphans.size === 0) return;
  const named = yield* world.call("inbox", () => [...world.inbox.manifests.values()].flatMap(({ blobKey }) => blobKey ?? []));
  for (const blobKey of named) orphans.delete(blobKey);
  yield* world.call("inbox", () => orphans.forEach((blobKey) => world.inbox.blobs.delete(blobKey)));
}
