import { statfs } from "node:fs/promises";
import { Unavailable, type Dependency } from "../core/errors.ts";

/** Below this a disk counts as full: LMDB reports its short writes as EIO, so the free space has to tell them apart. */
const FULL_BELOW_BYTES = 1024 * 1024;

const FULL = new Set<unknown>(["ENOSPC", "EDQUOT", 28 /* ENOSPC */, 122 /* EDQUOT */, -30792 /* MDB_MAP_FULL */]);
const MAYBE_FULL = new Set<unknown>(["EIO", 5 /* EIO */]);

/**
 * What a disk store throws to its callers. LMDB's "Commit failed" carries its real reason as a promise,
 * which has to be awaited: left alone, its rejection would end the process.
 */
export function createTrouble(dependency: Dependency, folder: string) {
  async function unavailable(error: unknown): Promise<Unavailable> {
    if (error instanceof Unavailable) return error;
    const cause = await reasonOf(error);
    const code = (cause as { code?: unknown } | undefined)?.code;
    return new Unavailable(dependency, { cause, full: FULL.has(code) || (MAYBE_FULL.has(code) && (await isFull())) });
  }

  /** Runs disk work; whatever it throws becomes Unavailable. Never to be put around a caller's body. */
  async function disk<T>(work: Promise<T> | (() => T | Promise<T>)): Promise<T> {
    try {
      return await (typeof work === "function" ? work() : work);
    } catch (error) {
      throw await unavailable(error);
    }
  }

  async function isFull(): Promise<boolean> {
    try {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize < FULL_BELOW_BYTES;
    } catch {
      return false; // the folder itself is out of reach: not a question of space
    }
  }

  return { disk, unavailable, isFull };
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
