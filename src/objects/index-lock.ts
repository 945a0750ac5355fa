import { closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { tryLock, unlock } from "fs-native-extensions";
import { backoffMs } from "../core/backoff.ts";

/** New writes join a turn for so long; it lasts until the last of them is done. A commit takes 1 to 10 ms. */
const TURN_MS = 20;
/** So long does a writer wait politely for those who want to be alone; then it writes if it can. One of them may wait for a process that stands still. */
const PATIENCE_MS = 3_000;
const WAITS = { firstMs: 1, mostMs: 20 };

export type IndexLock = ReturnType<typeof createIndexLock>;

/**
 * Keeps the processes that write to an index apart from the one that opens or closes it (docs/decisions/010). Many may write
 * at once, LMDB has a lock for that; who opens or closes is alone. The kernel keeps the locks, and gives back those of a
 * process that dies.
 *
 * LMDB's own `data.mdb` is locked, shared, while writes are under way, and exclusively by who is alone: LMDB itself locks
 * another file. `knocking.lock` is for fairness only: who waits to be alone holds it, who is about to write looks at
 * it. Without it, busy writers would never all be gone at once.
 */
export function createIndexLock(folder: string) {
  const own = openLockFiles(folder);
  let held = false;
  let turnBeganAt = 0;
  let inside = 0;
  let taking: Promise<void> | undefined;
  let onEmpty: (() => void) | undefined;
  let closed = false;

  /** Runs it beside other writes. It is called at once where a turn is under way, which is most of the time. */
  function shared<T>(write: () => Promise<T>): Promise<T> {
    // A turn with nobody in it has just begun, however long ago: this process may have stood still.
    if (held && (inside === 0 || performance.now() - turnBeganAt < TURN_MS)) return enter(write);
    taking ??= takeTurn().finally(() => (taking = undefined));
    return taking.then(() => shared(write));
  }

  async function enter<T>(write: () => Promise<T>): Promise<T> {
    inside += 1;
    try {
      return await write();
    } finally {
      inside -= 1;
      if (inside === 0) endTurn();
    }
  }

  async function takeTurn(): Promise<void> {
    if (held) await new Promise<void>((resolve) => (onEmpty = resolve));
    const impatientAt = performance.now() + PATIENCE_MS;
    for (let tries = 1; ; tries += 1) {
      if (closed) throw new Error("the store is closed");
      if (performance.now() < impatientAt ? tryPolitely() : tryLock(own.data, { shared: true })) break;
      await pause(backoffMs(tries, WAITS));
    }
    held = true;
    turnBeganAt = performance.now();
  }

  function tryPolitely(): boolean {
    if (!tryLock(own.knocking, { shared: true })) return false;
    try {
      return tryLock(own.data, { shared: true });
    } finally {
      unlock(own.knocking);
    }
  }

  function endTurn(): void {
    held = false;
    try {
      if (!closed) unlock(own.data);
    } finally {
      onEmpty?.();
    }
  }

  /** Gives the files back. What is under way goes on without the lock. */
  function close(): void {
    if (closed) return;
    closed = true;
    held = false;
    closeLockFiles(own);
  }

  return {
    shared, close,
    /** @throws NotAlone within `withinMs`; the work was not begun then */
    exclusive: <T>(withinMs: number, work: () => Promise<T> | T) => exclusively(folder, withinMs, work),
  };
}

/** By files of its own, so that the writes of this process, too, come first or wait. Where the folder is gone there is nobody else. */
async function exclusively<T>(folder: string, withinMs: number, work: () => Promise<T> | T): Promise<T> {
  if (!existsSync(folder)) return work();
  const { knocking, data } = openLockFiles(folder);
  const deadline = performance.now() + withinMs;
  try {
    if (!(await lockBefore(deadline, knocking)) || !(await lockBefore(deadline, data))) throw new NotAlone(folder, withinMs);
    return await work();
  } finally {
    closeLockFiles({ knocking, data }); // and with them the locks
  }
}

async function lockBefore(deadline: number, fd: number): Promise<boolean> {
  for (let tries = 1; !tryLock(fd); tries += 1) {
    if (performance.now() >= deadline) return false;
    await pause(backoffMs(tries, WAITS));
  }
  return true;
}

export class NotAlone extends Error {
  constructor(folder: string, withinMs: number) {
    super(`another process that uses ${folder} did not let go of it within ${withinMs} ms; one that stands still has to be ended first`);
  }
}

type LockFiles = { knocking: number; data: number };

function openLockFiles(folder: string): LockFiles {
  const knocking = openSync(join(folder, "knocking.lock"), "a+");
  try {
    return { knocking, data: openSync(join(folder, "data.mdb"), "a+") }; // LMDB takes an empty file for a new one
  } catch (error) {
    closeSync(knocking);
    throw error;
  }
}

function closeLockFiles({ knocking, data }: LockFiles): void {
  closeSync(data);
  closeSync(knocking);
}
