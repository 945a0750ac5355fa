import { Unavailable, type Dependency } from "../core/errors.ts";
import { Damaged } from "./object-store.ts";
import type { Space } from "./space.ts";

const FULL = new Set<unknown>(["ENOSPC", "EDQUOT", 28 /* ENOSPC */, 122 /* EDQUOT */, -30792 /* MDB_MAP_FULL */]);
/** LMDB reports a write cut short by a full disk as EIO: the free space tells. */
const MAYBE_FULL = new Set<unknown>(["EIO", 5 /* EIO */]);

/**
 * What a disk store throws to its callers. LMDB's "Commit failed" carries its real reason as a promise,
 * which has to be awaited: left alone, its rejection would end the process.
 */
export function createTrouble(dependency: Dependency, space: Space) {
  async function unavailable(error: unknown): Promise<Unavailable | Damaged> {
    if (error instanceof Unavailable || error instanceof Damaged) return error;
    const cause = await reasonOf(error);
    const code = (cause as { code?: unknown } | undefined)?.code;
    return new Unavailable(dependency, { cause, full: FULL.has(code) || (MAYBE_FULL.has(code) && isFull()) });
  }

  /** Runs disk work; whatever it throws becomes Unavailable, but for Damaged. Never to be put around a caller's body. */
  async function disk<T>(work: Promise<T> | (() => T | Promise<T>)): Promise<T> {
    try {
      return await (typeof work === "function" ? work() : work);
    } catch (error) {
      throw await unavailable(error);
    }
  }

  function isFull(): boolean {
    try {
      return space.isFull();
    } catch {
      return false; // the folder itself is out of reach: not a question of space
    }
  }

  return { disk, unavailable };
}

export type Trouble = ReturnType<typeof createTrouble>;

async function reasonOf(error: unknown): Promise<unknown> {
  const commitError = (error as { commitError?: unknown } | undefined)?.commitError;
  if (!(commitError instanceof Promise)) return error;
  return commitError.then(
    () => error,
    (reason: unknown) => reason,
  );
}
