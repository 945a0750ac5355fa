import { setTimeout as sleep } from "node:timers/promises";
import type { Backends } from "./backends.ts";
import type { Ledger } from "./ledger.ts";

const POLL_MS = 20;
const GIVE_UP_AFTER_MS = 30_000; // without any progress

export interface Following {
  /** After the first poll that saw any, until the last one: the base of the rate. */
  settled: number;
  settledPerSecond: number;
  /** performance.now() of the poll that saw the last row. */
  endedAt: number;
  failure: string | undefined;
}

/** Watches the ledger fill until it has so many records and the stream is empty. */
export async function followBacklog({ ledger, backends, until, onFirst = () => {} }: {
  ledger: Ledger;
  backends: Backends;
  until: number;
  onFirst?: () => void;
}): Promise<Following> {
  let first: { records: number; at: number } | undefined;
  let last = { records: -1, at: performance.now() };
  for (;;) {
    const records = await ledger.records();
    const at = performance.now();
    if (records > 0 && first === undefined) {
      first = { records, at };
      onFirst();
    }
    if (records !== last.records) last = { records, at };
    if (records >= until || at - last.at > GIVE_UP_AFTER_MS) break;
    await sleep(POLL_MS);
  }
  const settled = last.records - (first?.records ?? 0);
  return {
    settled,
    settledPerSecond: first === undefined || settled === 0 ? 0 : (settled / (last.at - first.at)) * 1000,
    endedAt: last.at,
    failure: last.records >= until ? await untilEmpty(backends, backends.stream) : `it stopped at ${last.records} of ${until}`,
  };
}

/** The acknowledgement comes after the commit. @returns what is wrong */
export async function untilEmpty(backends: Backends, stream: string): Promise<string | undefined> {
  const deadline = performance.now() + GIVE_UP_AFTER_MS;
  while (performance.now() < deadline) {
    if ((await backends.redis.xlen(stream)) === 0) return undefined;
    await sleep(POLL_MS);
  }
  return "all of them are in the database, and the stream is not empty";
}
