import { failpoint } from "../core/failpoints.ts";
import { isId, newId } from "../core/ids.ts";
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
/** So many events at fault are found in a batch, one by one; what is left of it then is taken as it comes. */
const MOST_SINGLED_OUT = 50;

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
        else dead.push({ batch_id: entry.key, stream_id: entry.id, reason: "it is no batch of events", message: entry.body, events: null });
      }
      add(all, await recordSome(batches, again));
      if (dead.length > 0) await giveUp(dead);
    }
    log.info({ entries: entries.length, ...all, again: again.size, ms: Math.round(performance.now() - startedAt) }, "events recorded");
    return again;
  }

  /** Where one of them cannot be recorded, each is tried by itself, so that it takes no other one with it. */
  async function recordSome(batches: { entry: Entry; batch: Batch }[], again: Set<string>): Promise<Recorded> {
    try {
      const recorded = await record(batches.map(({ batch }) => batch));
      for (const { entry } of batches) attempts.delete(entry.id);
      return recorded;
    } catch (error) {
      if (!isDataError(error)) throw error;
      if (batches.length === 1) return judge(batches[0]!, error as Error, again);
      const all: Recorded = { events: 0, repeated: 0 };
      const half = Math.ceil(batches.length / 2);
      for (const part of [batches.slice(0, half), batches.slice(half)]) add(all, await recordSome(part, again));
      return all;
    }
  }

  async function judge({ entry, batch }: { entry: Entry; batch: Batch }, error: Error, again: Set<string>): Promise<Recorded> {
    const failed = (attempts.get(entry.id) ?? 0) + 1;
    log.warn({ err: error, streamId: entry.id, attempt: failed }, "a batch of events could not be recorded");
    if (failed < MOST_ATTEMPTS) {
      attempts.set(entry.id, failed);
      again.add(entry.id);
      return { events: 0, repeated: 0 };
    }
    const recorded = await recordApart(batch, entry.id);
    attempts.delete(entry.id);
    return recorded;
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

  /**
   * A batch with something that the database does not take: that becomes a dead letter, and the rest is recorded, in one
   * transaction under the batch's id. What was given up has an id of its own, under which it can be put back.
   * @throws Unavailable
   */
  async function recordApart(batch: Batch, streamId: string | null): Promise<Recorded> {
    const faulty = new Map<Event, string>();
    await findFaulty(batch.events, faulty);
    const good = batch.events.filter((event) => !faulty.has(event));
    try {
      const recorded = await db.transaction((tx) => recordWithout(tx, { id: batch.id, events: good }, faulty, streamId));
      if (recorded === undefined) return { events: 0, repeated: good.length };
      if (faulty.size > 0) log.error({ events: faulty.size, recorded, reason: firstOf(faulty) }, "events were given up");
      return { events: recorded, repeated: good.length - recorded };
    } catch (error) {
      if (!isDataError(error)) throw error;
      await giveUp([{ batch_id: batch.id, stream_id: streamId, reason: (error as Error).message, message: JSON.stringify(batch.events), events: batch.events.length }]);
      return { events: 0, repeated: 0 };
    } finally {
      users.forget();
    }
  }

  /** @returns how many rows there are now; undefined: the batch was recorded before */
  async function recordWithout(tx: CopyDb, batch: Batch, faulty: ReadonlyMap<Event, string>, streamId: string | null): Promise<number | undefined> {
    if ((await queries.insertBatches(tx, [batch.id])).size === 0) return undefined;
    const { events } = await recordEvents(tx, batch.events);
    if (faulty.size === 0) return events;
    const message = JSON.stringify([...faulty.keys()]);
    await queries.insertDeadLetters(tx, [{ batch_id: newId(), stream_id: streamId, reason: firstOf(faulty), message, events: faulty.size }]);
    return events;
  }

  /** Tries halves of halves, each in a transaction that is taken back: so nobody waits for rows of it, nor it for others' in a circle. */
  async function findFaulty(events: readonly Event[], faulty: Map<Event, string>): Promise<void> {
    const reason = await faultOf(events);
    if (reason === undefined) return;
    if (events.length === 1 || faulty.size >= MOST_SINGLED_OUT) {
      for (const event of events) faulty.set(event, reason);
      return;
    }
    const half = Math.ceil(events.length / 2);
    await findFaulty(events.slice(0, half), faulty);
    await findFaulty(events.slice(half), faulty);
  }

  /** What the database has against them, in its words. Undefined: nothing. */
  async function faultOf(events: readonly Event[]): Promise<string | undefined> {
    try {
      await db.transaction(async (tx) => {
        await recordEvents(tx, events);
        await queries.checkDeferred(tx);
        throw new TakenBack();
      });
    } catch (error) {
      if (isDataError(error)) return (error as Error).message;
      if (!(error instanceof TakenBack)) throw error;
    }
    return undefined;
  }

  async function recordOnce(tx: CopyDb, batches: ReadonlyMap<string, Batch>) {
    const fresh = await queries.insertBatches(tx, [...batches.keys()]);
    return recordEvents(tx, [...fresh].flatMap((id) => batches.get(id)!.events));
  }

  async function recordEvents(tx: CopyDb, given: readonly Event[]) {
    const events = await withoutRepeats(tx, given);
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
  async function withoutRepeats(tx: CopyDb, events: readonly Event[]): Promise<readonly Event[]> {
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

  return { recordEntries, record, recordApart };
}

function firstOf(faulty: ReadonlyMap<Event, string>): string {
  const [reason] = faulty.values();
  return reason!;
}

/** Ends a transaction that was only a trial. */
class TakenBack extends Error {}

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

function add(sum: Recorded, one: Recorded): void {
  sum.events += one.events;
  sum.repeated += one.repeated;
}
