import { failpoint } from "../core/failpoints.ts";
import { isId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { isDataError, type CopyDb, type Database } from "../db/pool.ts";
import type { Entry } from "../stream/consumer.ts";
import { createActiveUsers } from "./active-users.ts";
import { readBody, type Batch, type Event } from "./messages.ts";
import * as queries from "./queries.ts";
import { rollUp } from "./rollup.ts";

export interface RecordSettings {
  db: Database;
  /** Aborted when the process is to end: the slice in hand is finished, the rest of the batch is left to others. */
  stopping?: AbortSignal;
  log: Log;
}

/** What came of some batches. */
export interface Recorded {
  /** Rows that are there now. */
  events: number;
  /** Events that were there already: of a batch that came again, or under an id that was sent before. */
  repeated: number;
}

export const MOST_ATTEMPTS = 3;
/** Of one transaction. With 5,000 of them a row of the figures is written again five times as often. */
const MOST_EVENTS_AT_ONCE = 25_000;

export type Recording = ReturnType<typeof createRecording>;

/**
 * Batches -> events and figures, in one transaction, so that the figures equal a recount of the rows. A batch that comes
 * again (its worker died before the acknowledgement, or it was on the disk as well) is known by its id and changes nothing.
 */
export function createRecording({ db, stopping, log }: RecordSettings) {
  const users = createActiveUsers();
  const attempts = new Map<string, number>(); // entry id -> how often it failed, in this process

  /** A consumer's Handler. @returns ids of entries to be tried again; @throws Unavailable: none of them is lost */
  async function recordEntries(entries: Entry[]): Promise<Set<string>> {
    const startedAt = performance.now();
    const again = new Set<string>();
    const all: Recorded = { events: 0, repeated: 0 };
    for (const slice of slicesOf(entries)) {
      if (stopping?.aborted && slice[0] !== entries[0]) {
        for (const { id } of slice) again.add(id);
        continue;
      }
      const dead: queries.DeadBatch[] = [];
      const batches: { entry: Entry; batch: Batch }[] = [];
      for (const entry of slice) {
        const events = isId(entry.key) ? readBody(entry.body) : undefined;
        if (events) batches.push({ entry, batch: { id: entry.key, events } });
        else dead.push(deadOf(entry, "it is no batch of events", undefined));
      }
      add(all, await recordSome(batches, again, dead));
      if (dead.length > 0) await giveUp(dead);
    }
    log.info({ entries: entries.length, ...all, again: again.size, ms: Math.round(performance.now() - startedAt) }, "events recorded");
    return again;
  }

  /** Where one of them cannot be recorded, each is tried by itself, so that it takes no other one with it. */
  async function recordSome(batches: { entry: Entry; batch: Batch }[], again: Set<string>, dead: queries.DeadBatch[]): Promise<Recorded> {
    try {
      const recorded = await record(batches.map(({ batch }) => batch));
      for (const { entry } of batches) attempts.delete(entry.id);
      return recorded;
    } catch (error) {
      if (!isDataError(error)) throw error;
      if (batches.length === 1) {
        judge(batches[0]!, error as Error, again, dead);
        return { events: 0, repeated: 0 };
      }
      const all: Recorded = { events: 0, repeated: 0 };
      const half = Math.ceil(batches.length / 2);
      for (const part of [batches.slice(0, half), batches.slice(half)]) add(all, await recordSome(part, again, dead));
      return all;
    }
  }

  function judge({ entry, batch }: { entry: Entry; batch: Batch }, error: Error, again: Set<string>, dead: queries.DeadBatch[]): void {
    const failed = (attempts.get(entry.id) ?? 0) + 1;
    log.warn({ err: error, streamId: entry.id, attempt: failed }, "a batch of events could not be recorded");
    if (failed < MOST_ATTEMPTS) {
      attempts.set(entry.id, failed);
      again.add(entry.id);
      return;
    }
    attempts.delete(entry.id);
    dead.push(deadOf(entry, error.message, batch.events.length));
  }

  async function giveUp(dead: queries.DeadBatch[]): Promise<void> {
    await queries.insertDeadLetters(db, dead);
    log.error({ batches: dead.length, reason: dead[0]!.reason }, "batches of events were given up");
  }

  /**
   * All of them, or none.
   * @throws Unavailable; pg's DatabaseError where one of them has something that the database does not take
   */
  async function record(batches: readonly Batch[]): Promise<Recorded> {
    if (batches.length === 0) return { events: 0, repeated: 0 };
    const once = new Map(batches.map((batch) => [batch.id, batch]));
    const given = batches.reduce((sum, { events }) => sum + events.length, 0);
    try {
      const { events, figures, seen, server } = await db.transaction((tx) => recordOnce(tx, once));
      users.remember(seen, figures, server);
      await failpoint("events-recorded");
      return { events, repeated: given - events };
    } catch (error) {
      users.forget();
      throw error;
    }
  }

  async function recordOnce(tx: CopyDb, batches: ReadonlyMap<string, Batch>) {
    const fresh = await queries.insertBatches(tx, [...batches.keys()]);
    const events = await withoutRepeats(tx, [...fresh].flatMap((id) => batches.get(id)!.events));
    const seen: string[] = [];
    const server = await queries.selectServer(tx);
    users.ofServer(server);
    if (events.length === 0) return { events: 0, figures: [], seen, server };
    await queries.copyEvents(tx, events);
    const figures = rollUp(events);
    await queries.addQuarters(tx, figures);
    await queries.addPaths(tx, figures);
    await queries.addUsers(tx, users.unknownOf(figures, seen));
    await failpoint("events-written");
    return { events: events.length, figures, seen, server };
  }

  /** Of those with an id of their sender's the first one, and only if it never came before. */
  async function withoutRepeats(tx: CopyDb, events: Event[]): Promise<Event[]> {
    const sites = new Map<string, queries.SentIds & { known: Set<string> }>();
    events.forEach(([site_id, , , , , eventId], place) => {
      if (eventId === null) return;
      let sent = sites.get(site_id);
      if (!sent) sites.set(site_id, (sent = { site_id, ids: [], places: [], known: new Set() }));
      if (sent.known.has(eventId)) return;
      sent.known.add(eventId);
      sent.ids.push(eventId);
      sent.places.push(place);
    });
    if (sites.size === 0) return events;
    const fresh = await queries.insertEventIds(tx, [...sites.values()].map(({ site_id, ids, places }) => ({ site_id, ids, places })));
    return events.filter((event, place) => event[5] === null || fresh.has(place));
  }

  return { recordEntries, record };
}

function* slicesOf(entries: readonly Entry[]): Generator<Entry[]> {
  let slice: Entry[] = [];
  let characters = 0;
  for (const entry of entries) {
    slice.push(entry);
    characters += entry.body.length;
    if (characters < MOST_EVENTS_AT_ONCE * LEAST_CHARACTERS) continue;
    yield slice;
    [slice, characters] = [[], 0];
  }
  if (slice.length > 0) yield slice;
}

/** Of an event in an entry, about; how many there are is not known before it is parsed. */
const LEAST_CHARACTERS = 80;

function deadOf(entry: Entry, reason: string, events: number | undefined): queries.DeadBatch {
  return { batch_id: entry.key, stream_id: entry.id, reason, message: entry.body, events: events ?? null };
}

function add(sum: Recorded, one: Recorded): void {
  sum.events += one.events;
  sum.repeated += one.repeated;
}
