import type { Dependency } from "./errors.ts";
import { within } from "./within.ts";

/** What a dependency answers when it is asked whether it is there. */
export interface Probed {
  ok: boolean;
  latency_ms: number;
  error?: string;
  /** It answers, but is not as it should be. */
  warning?: string;
}

const PROBE_TIMEOUT_MS = 2_000;

/** @param inspect  asked at the same time; what it finds wrong is a warning */
export async function probe(name: Dependency, ask: () => Promise<unknown>, inspect = async (): Promise<string | undefined> => undefined): Promise<Probed> {
  const startedAt = performance.now();
  let error: string | undefined, warning: string | undefined;
  try {
    [, warning] = await within(PROBE_TIMEOUT_MS, name, Promise.all([ask(), inspect()]));
  } catch (cause) {
    error = cause instanceof Error ? cause.message : String(cause);
  }
  const latency_ms = Math.round((performance.now() - startedAt) * 10) / 10;
  return { ok: error === undefined, latency_ms, ...(error !== undefined && { error }), ...(warning !== undefined && { warning }) };
}
