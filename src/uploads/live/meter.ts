import type { Redis } from "ioredis";
import { z } from "zod";
import type { Clock } from "../../core/clock.ts";
import { Unavailable } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { readJson } from "../../core/read-json.ts";
import { backlogLength } from "../../stream/backlog.ts";
import { SLICE_MS, sliceOf, type Slices } from "../../stream/slices.ts";
import { addTime, type Histogram } from "./latency.ts";
import type { Amount } from "../audit/tally.ts";

const count = z.number().nonnegative().catch(0);

/** What one process says of a slice of time; short names, as Redis holds hundreds of them. */
export const SliceWord = z.object({
  /** Accepted uploads and their bytes; settled ones; failed attempts. */
  a: count, ab: count, s: count, sb: count, f: count,
  /** The longest that the queue was seen to be. */
  q: z.number().nullable().catch(null),
  /** Times from acceptance to the ledger. */
  l: z.record(z.coerce.number(), count).catch({}),
});
type SliceWord = z.infer<typeof SliceWord>;

export const TELL_EVERY_MS = 1_000;
const KEEP_MS = 900_000; // what Redis did not take for so long nobody looks for any more

export type Meter = ReturnType<typeof createMeter>;

/**
 * Counts what this process does, by slices of time, and tells Redis once a second, behind the uploads' backs; what Redis
 * does not take is told later. From what all processes tell, each of them knows the system's figures: see live-figures.ts.
 */
export function createMeter({ slices, redis, stream, name, clock, log }: {
  slices: Pick<Slices, "put">; redis: Redis; stream: string; name: string; clock: Clock; log: Log;
}) {
  const untold = new Map<number, SliceWord>();
  let current = { at: Number.NEGATIVE_INFINITY, word: nothing() };
  let acceptedNow: () => Amount = () => ({ files: 0, bytes: 0 });
  let accepted: Amount = { files: 0, bytes: 0 };
  let notedAt = clock.now().getTime();
  let told: ReadonlyMap<number, string> = new Map(); // the last time that there was something to tell
  let telling: Promise<void> | undefined;
  let failing = false;
  const timer = setInterval(() => void tell(), TELL_EVERY_MS).unref();

  /** From where to read what was accepted in all, by this process; counting each upload here would cost the door. */
  function follow(total: () => Amount): void {
    acceptedNow = total;
  }

  function settled(uploads: readonly { sizeBytes: number; eventTime: Date }[]): void {
    const now = clock.now().getTime();
    const word = wordOf(now);
    for (const { sizeBytes, eventTime } of uploads) {
      word.s++;
      word.sb += sizeBytes;
      addTime(word.l as Histogram, now - eventTime.getTime());
    }
  }

  /** An attempt to settle an upload. */
  function failed(): void {
    wordOf(clock.now().getTime()).f++;
  }

  /** @returns when all is told that could be; also for tests */
  function tell(): Promise<void> {
    return (telling ??= tellNow().finally(() => (telling = undefined)));
  }

  async function tellNow(): Promise<void> {
    const now = clock.now().getTime();
    noteAccepted(wordOf(now), now);
    const { at, word } = current;
    try {
      word.q = Math.max(word.q ?? 0, await backlogLength(redis, stream));
      const due = new Map([...untold].map(([begunAt, said]) => [begunAt, JSON.stringify(said)] as const).filter(([begunAt, said]) => told.get(begunAt) !== said));
      await slices.put(name, due);
      told = due.size > 0 ? due : told;
      for (const begunAt of untold.keys()) if (begunAt < at) untold.delete(begunAt);
      failing = false;
    } catch (err) {
      if (!failing) log[err instanceof Unavailable && !err.refused ? "debug" : "warn"]({ err }, "the figures of the dashboard could not be told to redis");
      failing = true;
      for (const begunAt of untold.keys()) if (begunAt < now - KEEP_MS) untold.delete(begunAt);
    }
  }

  /** @param share  so much of what came since it was last noted */
  function noteAccepted(word: SliceWord, now: number, share = 1): void {
    const { files, bytes } = acceptedNow();
    const came = { files: Math.round((files - accepted.files) * share), bytes: Math.round((bytes - accepted.bytes) * share) };
    word.a += came.files;
    word.ab += came.bytes;
    accepted = { files: accepted.files + came.files, bytes: accepted.bytes + came.bytes };
    notedAt = now;
  }

  function wordOf(now: number): SliceWord {
    const at = sliceOf(now);
    if (at === current.at) return current.word;
    // What came since the last telling belongs to both: without its share of it a slice would be up to a second too long or short.
    if (current.at + SLICE_MS === at) noteAccepted(current.word, at, now > notedAt ? Math.max(0, at - notedAt) / (now - notedAt) : 1);
    current = { at, word: untold.get(at) ?? nothing() };
    untold.set(at, current.word);
    return current.word;
  }

  async function close(): Promise<void> {
    clearInterval(timer);
    await telling;
    await tell();
  }

  return { follow, settled, failed, tell, close };
}

function nothing(): SliceWord {
  return { a: 0, ab: 0, s: 0, sb: 0, f: 0, q: null, l: {} };
}

/** Undefined: it is no word of ours. */
export function readWord(text: string): SliceWord | undefined {
  return readJson(SliceWord, text);
}
