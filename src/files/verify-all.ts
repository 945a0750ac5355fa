import { createTurns } from "../core/turns.ts";
import type { Database } from "../db/pool.ts";
import type { Verifier } from "../objects/verify.ts";
import type { Damage } from "./damage.ts";
import * as queries from "./queries.ts";
import type { FileObject } from "./queries.ts";

/** Objects are counted once where they are near each other; one that far apart files share may be read twice. */
export interface Found {
  objects: number;
  sizeBytes: number;
  /** Storage key -> what is wrong, and the files that refer to it. */
  damaged: Map<string, { reason: string; files: string[] }>;
}

const PAGE = 1_000;
const READ_AT_ONCE = 8;

/**
 * Reads all stored objects as fast as they come, and records what is damaged, and what is good again.
 * @throws Unavailable
 */
export async function verifyAll(
  { db, verifier, damage }: { db: Database; verifier: Verifier; damage: Damage }, onProgress: (found: Found) => void,
): Promise<Found> {
  const found: Found = { objects: 0, sizeBytes: 0, damaged: new Map() };
  const inTurn = createTurns(READ_AT_ONCE);
  for (let after = queries.FIRST_ID; ;) {
    const files = await queries.selectFileObjects(db, after, PAGE);
    const objects = new Map<string, FileObject[]>();
    for (const file of files) {
      const same = objects.get(file.key);
      if (same) same.push(file);
      else objects.set(file.key, [file]);
    }
    const outcomes = await Promise.allSettled([...objects.values()].map((same) => inTurn(() => look(same))));
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    if (files.length < PAGE) return found;
    after = files.at(-1)!.id;
  }

  /** Files that share an object. */
  async function look(files: FileObject[]): Promise<void> {
    const { key, sizeBytes, sha256 } = files[0]!;
    const ids = files.map(({ id }) => id);
    const known = found.damaged.get(key);
    if (known) return void known.files.push(...ids);
    const expected = { key, sizeBytes, sha256 };
    let verdict = await verifier.verify(expected, { lately: true });
    // Another process that is about it has not always recorded it by now; what was read here stands all the same.
    if (!verdict.good || files.some(({ damaged }) => damaged)) verdict = (await damage.check(expected, "verify")) ?? verdict;
    if (!verdict.good) found.damaged.set(key, { reason: `${verdict.problem}: ${verdict.reason}`, files: ids });
    found.objects++;
    found.sizeBytes += sizeBytes;
    onProgress(found);
  }
}
