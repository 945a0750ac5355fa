import { createMeasure, type Measure } from "../../objects/measure.ts";

const MOST_KEPT = 1_000;

export type RunningHashes = ReturnType<typeof createRunningHashes>;

/**
 * The hash of uploads whose pieces all come to this process one after the other. It is of the bytes as they came, so what
 * the inbox gives in the end can be held against it, and what came in one piece need not be read again.
 */
export function createRunningHashes() {
  const kept = new Map<string, { measure: Measure; upTo: number }>();

  /** @param id  of the upload and of nothing else that was under its id; for what comes at `offset`. Undefined: not all before it came through here. */
  function resume(id: string, offset: number): Measure | undefined {
    const found = kept.get(id);
    kept.delete(id);
    if (offset === 0) return createMeasure();
    return found?.upTo === offset ? found.measure : undefined;
  }

  /** All it was told of is durable. */
  function keep(id: string, measure: Measure | undefined): void {
    if (!measure) return;
    kept.set(id, { measure, upTo: measure.sizeBytes });
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value!);
  }

  /** Of all bytes up to there, hexadecimal. */
  function take(id: string, sizeBytes: number): string | undefined {
    const found = kept.get(id);
    kept.delete(id);
    return found?.upTo === sizeBytes ? found.measure.sha256() : undefined;
  }

  return { resume, keep, take };
}
