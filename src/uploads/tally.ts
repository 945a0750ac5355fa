import { z } from "zod";
import { Unavailable } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { pagesOf, type ObjectStore } from "../objects/object-store.ts";

/** Uploads, and their bytes together. */
export interface Amount {
  files: number;
  bytes: number;
}

const TALLIES = "tallies/";
const WRITE_EVERY_MS = 1_000; // R2 takes one write a second under one key
const READ_AT_ONCE = 32;
const SETTLED_AFTER_MS = 300_000; // so old a tally is not being written to, by the store's clock and ours

const TallyObject = z.object({ files: z.number().int().nonnegative(), bytes: z.number().int().nonnegative() });

export type Tally = ReturnType<typeof createTally>;

/**
 * How many uploads this web process has acknowledged, counted apart from what became of them; the audit holds the two
 * against each other. Counted in memory, written to the inbox behind the uploads' backs, so a killed process leaves at
 * most the last second uncounted. What is written only ever grows, and is never more than what was committed before.
 */
export function createTally({ store, name, log }: { store: ObjectStore; name: string; log: Log }) {
  let files = 0;
  let bytes = 0;
  let writtenFiles = 0;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let failing = false;
  let closed = false;

  /** One more upload whose manifest is durable. */
  function add(sizeBytes: number): void {
    files++;
    bytes += sizeBytes;
    timer ??= closed ? undefined : setTimeout(write, WRITE_EVERY_MS).unref();
  }

  function write(): void {
    writing = writeNow().then(() => {
      timer = files === writtenFiles || closed ? undefined : setTimeout(write, WRITE_EVERY_MS).unref();
    });
  }

  /** One at a time: an older count never takes the place of a newer one. */
  async function writeNow(): Promise<void> {
    const now: Amount = { files, bytes };
    try {
      await store.put(TALLIES + name, Buffer.from(JSON.stringify(now)));
      writtenFiles = now.files;
      failing = false;
    } catch (err) {
      if (!failing) log[err instanceof Unavailable ? "warn" : "error"]({ err }, "the tally could not be written and will be tried again");
      failing = true;
    }
  }

  /** Writes what was counted since the last time, before the inbox is closed. */
  async function close(): Promise<void> {
    closed = true;
    clearTimeout(timer);
    await writing;
    if (files !== writtenFiles) await writeNow();
  }

  return { add, close };
}

/** Reads the tallies of all web processes there ever were, of those that ended long ago only once. */
export function createTallies(store: ObjectStore, now: () => Date) {
  let known = new Map<string, { modifiedAt: number; amount: Amount }>();

  /** By name. @throws Unavailable */
  async function read(): Promise<Map<string, Amount>> {
    const seen: typeof known = new Map();
    const unread: { key: string; modifiedAt: Date }[] = [];
    for await (const page of pagesOf(store, TALLIES)) {
      for (const { key, modifiedAt } of page) {
        const before = known.get(key);
        if (before?.modifiedAt === modifiedAt.getTime()) seen.set(key, before);
        else unread.push({ key, modifiedAt });
      }
    }
    const fresh = new Map<string, Amount>();
    for (let from = 0; from < unread.length; from += READ_AT_ONCE) {
      await Promise.all(unread.slice(from, from + READ_AT_ONCE).map(async ({ key, modifiedAt }) => {
        const object = await store.readWhole(key);
        if (!object) return;
        const amount = TallyObject.parse(JSON.parse(Buffer.from(object).toString()));
        fresh.set(key, amount);
        // A bucket's times are in whole seconds: two writes within one look alike.
        if (now().getTime() - modifiedAt.getTime() > SETTLED_AFTER_MS) seen.set(key, { modifiedAt: modifiedAt.getTime(), amount });
      }));
    }
    known = seen;
    const all = [...[...seen].map(([key, { amount }]) => [key, amount] as const), ...fresh];
    return new Map(all.map(([key, amount]) => [key.slice(TALLIES.length), amount]));
  }

  return { read };
}
