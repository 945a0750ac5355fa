import { z } from "zod";
import { Failure, Unavailable } from "../../core/errors.ts";
import type { Log } from "../../core/log.ts";
import { readJson } from "../../core/read-json.ts";
import { Damaged, pagesOf, type ObjectStore } from "../../objects/object-store.ts";
import type { Committed } from "../inbox.ts";

/** Uploads, and their bytes together. */
export interface Amount {
  files: number;
  bytes: number;
}

/** What a web process counted of the uploads it accepted. */
export interface Tallied extends Amount {
  /** Manifests that may be found of it although it did not count them: under way as this was said, or broken off with an outcome that nobody knows. */
  unsure: Amount;
  /** It ended in order and accepts nothing any more: more than this and what is unsure cannot be found of it. */
  closed: boolean;
}

const TALLIES = "tallies/";
const WRITE_EVERY_MS = 1_000; // R2 takes one write a second under one key
const READ_AT_ONCE = 32;
const SETTLED_AFTER_MS = 300_000; // so old a tally is not being written to, by the store's clock and ours

const count = z.number().int().nonnegative();
/** Versions before did not say what is unsure, nor whether they ended in order. */
const TallyObject = z.object({ files: count, bytes: count, unsure_files: count.default(0), unsure_bytes: count.default(0), closed: z.boolean().default(false) });

export type Tally = ReturnType<typeof createTally>;

/**
 * How many uploads this web process has acknowledged, counted apart from what became of them; the audit holds the two
 * against each other. Counted in memory, written to the inbox behind the uploads' backs, so a killed process leaves at
 * most the last second uncounted. What is written only ever grows, and is never more than what was committed before.
 * A commit is unsure from its beginning until it is known what came of it: with those the tally is never less, either.
 */
export function createTally({ store, name, log }: { store: ObjectStore; name: string; log: Log }) {
  let files = 0;
  let bytes = 0;
  const unsure: Amount = { files: 0, bytes: 0 };
  let writtenFiles = 0;
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let failing = false;
  let closed = false;

  /** Commits an upload and counts it, if it is one more. @throws Failure SHUTTING_DOWN once this is closed; what the commit throws */
  async function counted(sizeBytes: number, commit: () => Promise<Committed>): Promise<Committed> {
    doubt(sizeBytes);
    const committed = await commit(); // one that replaced another does not name this process: it was counted when it first came
    unsure.files--;
    unsure.bytes -= sizeBytes;
    if (committed.outcome === "created") add(committed.manifest.size_bytes);
    return committed;
  }

  /** A manifest that names this process may be written from now on and not be counted. @throws Failure SHUTTING_DOWN once this is closed */
  function doubt(sizeBytes: number): void {
    if (closed) throw new Failure("SHUTTING_DOWN"); // its client is gone, and what was said last must hold
    unsure.files++;
    unsure.bytes += sizeBytes;
  }

  function add(sizeBytes: number): void {
    files++;
    bytes += sizeBytes;
    timer ??= closed ? undefined : setTimeout(write, WRITE_EVERY_MS).unref();
  }

  function now(): Tallied {
    return { files, bytes, unsure: { ...unsure }, closed };
  }

  function write(): void {
    writing = writeNow().then(() => {
      timer = files === writtenFiles || closed ? undefined : setTimeout(write, WRITE_EVERY_MS).unref();
    });
  }

  /** One at a time: an older count never takes the place of a newer one. */
  async function writeNow(): Promise<void> {
    const written = { files, bytes, unsure_files: unsure.files, unsure_bytes: unsure.bytes, closed };
    try {
      await store.put(TALLIES + name, Buffer.from(JSON.stringify(written)));
      writtenFiles = written.files;
      failing = false;
    } catch (err) {
      if (!failing) log[err instanceof Unavailable ? "warn" : "error"]({ err }, "the tally could not be written and will be tried again");
      failing = true;
    }
  }

  /** Writes the last word, before the inbox is closed. */
  async function close(): Promise<void> {
    closed = true;
    clearTimeout(timer);
    await writing;
    if (files + unsure.files > 0) await writeNow();
  }

  return { counted, now, close };
}

/** Reads the tallies of all web processes there ever were, of those that ended long ago only once. */
export function createTallies(store: ObjectStore, now: () => Date) {
  let known = new Map<string, { modifiedAt: number; tallied: Tallied }>();

  /** By name; `unreadable` are the names of those that rotted: what their processes counted is not known. @throws Unavailable */
  async function read(): Promise<{ tallies: Map<string, Tallied>; unreadable: string[] }> {
    const unreadable: string[] = [];
    const seen: typeof known = new Map();
    const unread: { key: string; modifiedAt: Date }[] = [];
    for await (const page of pagesOf(store, TALLIES)) {
      for (const { key, modifiedAt } of page) {
        const before = known.get(key);
        if (before?.modifiedAt === modifiedAt.getTime()) seen.set(key, before);
        else unread.push({ key, modifiedAt });
      }
    }
    const fresh = new Map<string, Tallied>();
    for (let from = 0; from < unread.length; from += READ_AT_ONCE) {
      await Promise.all(unread.slice(from, from + READ_AT_ONCE).map(async ({ key, modifiedAt }) => {
        const tallied = await readOne(key);
        if (!tallied) return;
        if (tallied === "unreadable") {
          unreadable.push(nameOf(key)); // asked for again the next time: its process may write it anew
          return;
        }
        fresh.set(key, tallied);
        // A bucket's times are in whole seconds: two writes within one look alike.
        if (now().getTime() - modifiedAt.getTime() > SETTLED_AFTER_MS) seen.set(key, { modifiedAt: modifiedAt.getTime(), tallied });
      }));
    }
    known = seen;
    const all = [...[...seen].map(([key, { tallied }]) => [key, tallied] as const), ...fresh];
    return { tallies: new Map(all.map(([key, tallied]) => [nameOf(key), tallied])), unreadable: unreadable.sort() };
  }

  async function readOne(key: string): Promise<Tallied | "unreadable" | undefined> {
    try {
      const object = await store.readWhole(key);
      return object && readTally(Buffer.from(object).toString());
    } catch (error) {
      if (error instanceof Damaged) return "unreadable";
      throw error;
    }
  }

  return { read };
}

function nameOf(key: string): string {
  return key.slice(TALLIES.length);
}

/** One tally that rotted must not silence what the others have to say. */
function readTally(text: string): Tallied | "unreadable" {
  const read = readJson(TallyObject, text);
  if (!read) return "unreadable";
  const { unsure_files, unsure_bytes, ...said } = read;
  return { ...said, unsure: { files: unsure_files, bytes: unsure_bytes } };
}
