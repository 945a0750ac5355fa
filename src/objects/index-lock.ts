import { closeSync, existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { tryLock, unlock } from "fs-native-extensions";

/** A busy process lets go so often, for whoever waits to be alone. A commit takes 1 to 10 ms. */
const TURN_MS = 20;
/** So long does one that waits to be alone keep others from writing; then it lets them, should one of them stand still. */
const KNOCK_MS = 500;
const FIRST_WAIT_MS = 1;
const MOST_WAIT_MS = 20;

export type IndexLock = ReturnType<typeof createIndexLock>;

/**
 * Keeps the processes that write to an index apart from the one that opens or closes it (docs/decisions/010). Many may write
 * at once, LMDB has a lock for that; who opens or closes is alone. The kernel keeps the locks, and gives back those of a
 * process that dies.
 *
 * Of two files: `writing.lock` is held, shared, while writes are under way, and exclusively by who is alone. `knocking.lock` is
 * held by who waits to be alone, and only looked at by those who are about to write: without it, busy writers would never
 * all be gone at once.
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
    if (held && performance.now() - turnBeganAt < TURN_MS) return enter(write);
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
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, MOST_WAIT_MS)) {
      if (closed) throw new Error("the store is closed");
      if (tryTurn()) break;
      await pause(waitMs);
    }
    held = true;
    turnBeganAt = performance.now();
  }

  function tryTurn(): boolean {
    if (!tryLock(own.knocking, { shared: true })) return false;
    try {
      return tryLock(own.writing, { shared: true });
    } finally {
      unlock(own.knocking);
    }
  }

  function endTurn(): void {
    held = false;
    if (!closed) unlock(own.writing);
    onEmpty?.();
  }

  /** Gives the files back. What is under way goes on without the lock. */
  function close(): void {
    if (closed) return;
    closed = true;
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
  const files = openLockFiles(folder);
  try {
    await lockAlone(files, withinMs);
    return await work();
  } finally {
    closeLockFiles(files); // and with them the locks
  }
}

async function lockAlone({ knocking, writing }: LockFiles, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, MOST_WAIT_MS)) {
    if (tryLock(knocking)) {
      const until = Math.min(deadline, performance.now() + KNOCK_MS);
      do {
        if (tryLock(writing)) return;
        await pause(FIRST_WAIT_MS);
      } while (performance.now() < until);
      unlock(knocking);
      waitMs = MOST_WAIT_MS;
    }
    if (performance.now() >= deadline) throw new NotAlone(`other processes that write to it did not let go within ${withinMs} ms`);
    await pause(waitMs);
  }
}

export class NotAlone extends Error {}

type LockFiles = { knocking: number; writing: number };

function openLockFiles(folder: string): LockFiles {
  const knocking = openSync(join(folder, "knocking.lock"), "a+");
  try {
    return { knocking, writing: openSync(join(folder, "writing.lock"), "a+") };
  } catch (error) {
    closeSync(knocking);
    throw error;
  }
}

function closeLockFiles({ knocking, writing }: LockFiles): void {
  closeSync(writing);
  closeSync(knocking);
}
