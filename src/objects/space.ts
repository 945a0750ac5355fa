import { statfsSync } from "node:fs";

/** What a store leaves free: the lesser of 128 MiB and a twentieth of the disk. */
const MOST_KEPT_BYTES = 128 * 1024 * 1024;
const KEPT_SHARE = 1 / 20;
/** Others fill the disk, too. At 5 GB/s they get through the kept space in 25 ms. */
const LOOK_AGAIN_MS = 20;

/**
 * Room on a disk, asked for before it is used, so that no write of the index ever meets a full disk: LMDB survives
 * that, but lmdb-js 3.5 then formats its error text past the end of a 100-byte buffer (mdb.c, mdb_page_flush),
 * which can end the process. It also leaves the database and the queue next door some room to go on.
 */
export function createSpace(folder: string) {
  let leftBytes = 0;
  let keptBytes = 0;
  let lookedAt = Number.NEGATIVE_INFINITY;

  /**
   * @param spareBytes  what the writer has already of the disk, unused: with twice the need of that, half of the kept space will do
   * @throws Error with code ENOSPC
   */
  function take(sizeBytes: number, spareBytes: () => number = () => 0): void {
    if (leftBytes < sizeBytes || performance.now() - lookedAt > LOOK_AGAIN_MS) look();
    if (leftBytes >= sizeBytes) leftBytes -= sizeBytes;
    else if (leftBytes < -keptBytes / 2 || spareBytes() < 2 * sizeBytes) {
      throw Object.assign(new Error("no space left but what is kept free"), { code: "ENOSPC" });
    }
  }

  function isFull(): boolean {
    look();
    return leftBytes <= 0;
  }

  /** As it was at most a moment ago. */
  function room(): { freeBytes: number; keptBytes: number } {
    if (performance.now() - lookedAt > LOOK_AGAIN_MS) look();
    return { freeBytes: leftBytes + keptBytes, keptBytes };
  }

  function look(): void {
    const { bavail, blocks, bsize } = statfsSync(folder); // 2 µs; the file system is local
    keptBytes = Math.min(MOST_KEPT_BYTES, blocks * bsize * KEPT_SHARE);
    leftBytes = bavail * bsize - keptBytes;
    lookedAt = performance.now();
  }

  return { take, isFull, room };
}

export type Space = ReturnType<typeof createSpace>;
