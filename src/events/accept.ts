import type { Redis } from "ioredis";
import { Failure, Unavailable } from "../core/errors.ts";
import { failpoint } from "../core/failpoints.ts";
import { newId } from "../core/ids.ts";
import type { Log } from "../core/log.ts";
import { appendTogether } from "../stream/append.ts";
import type { EventBacklog } from "./backlog.ts";
import { writeUnit, type Event, type WrittenBatch } from "./messages.ts";
import type { Spool } from "./spool.ts";

export interface AcceptSettings {
  redis: Redis;
  stream: string;
  spool: Spool;
  backlog: EventBacklog;
  log: Log;
}

/** Of an entry. Larger ones save little, and a worker reads a few hundred of them at once. */
const MOST_BATCH_EVENTS = 500;
const MOST_BATCH_CHARACTERS = 128 * 1024;
/** Requests are taken together up to so many events; a single one may have more. */
const MOST_UNIT_EVENTS = 5_000;
const SPOOL_LOG_EVERY_MS = 60_000;

interface Waiting {
  events: string[];
  resolve: (value?: unknown) => void;
  reject: (error: unknown) => void;
}

export type AcceptEvents = ReturnType<typeof createAcceptEvents>;

/**
 * Events -> stream or, while Redis does not take them, -> spool. What came while the last unit was on its way goes
 * together: one command for all who wait, as a log has one flush for all who wait. With two units on their way at once, 16
 * clients got a quarter less: each command had fewer of them.
 */
export function createAcceptEvents({ redis, stream, spool, backlog, log }: AcceptSettings) {
  const waiting: Waiting[] = [];
  const counted = { accepted: 0, spooled: 0 };
  let running = false;
  let spoolLoggedAt = Number.NEGATIVE_INFINITY;

  /** Promises them, all or none. @throws Failure EVENTS_BACKLOG_FULL; Unavailable */
  function accept(events: readonly Event[]): Promise<void> {
    return new Promise((resolve, reject) => {
      backlog.assertRoom();
      waiting.push({ events: events.map((event) => JSON.stringify(event)), resolve, reject });
      if (running) return;
      running = true;
      setImmediate(run); // with whoever else is read in this turn of the event loop
    }).then(() => void (counted.accepted += events.length));
  }

  async function run(): Promise<void> {
    while (waiting.length > 0) {
      const unit = takeUnit();
      try {
        await promise(batchesOf(unit));
        for (const { resolve } of unit) resolve();
      } catch (error) {
        for (const { reject } of unit) reject(error);
      }
    }
    running = false;
  }

  function takeUnit(): Waiting[] {
    let events = waiting[0]!.events.length;
    let requests = 1;
    while (requests < waiting.length && events + waiting[requests]!.events.length <= MOST_UNIT_EVENTS) events += waiting[requests++]!.events.length;
    return waiting.splice(0, requests);
  }

  /** The same ids wherever they end up: where the reply of Redis was lost they are in both, and are recorded once. */
  async function promise(batches: WrittenBatch[]): Promise<void> {
    try {
      await appendTogether(redis, stream, batches.map(({ id, body }) => ({ key: id, body })));
      await failpoint("events-appended");
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      await putIntoSpool(batches, error);
    }
  }

  async function putIntoSpool(batches: WrittenBatch[], because: Unavailable): Promise<void> {
    const unit = Buffer.from(writeUnit(batches));
    const release = await backlog.reserveSpool(unit.length);
    try {
      await spool.put(unit);
    } catch (error) {
      release();
      if (error instanceof Unavailable && error.full) throw new Failure("EVENTS_BACKLOG_FULL", undefined, { cause: error });
      throw error;
    }
    await failpoint("events-spooled");
    counted.spooled += batches.length;
    if (performance.now() - spoolLoggedAt < SPOOL_LOG_EVERY_MS) return;
    spoolLoggedAt = performance.now();
    log.warn({ err: because, batches: counted.spooled }, "redis does not take events: they wait on the disk");
  }

  return { accept, assertRoom: backlog.assertRoom, counted: () => ({ ...counted }) };
}

function batchesOf(unit: readonly Waiting[]): WrittenBatch[] {
  const batches: WrittenBatch[] = [];
  let events: string[] = [];
  let characters = 0;
  const close = () => {
    if (events.length > 0) batches.push({ id: newId(), body: `[${events.join(",")}]` });
    [events, characters] = [[], 0];
  };
  for (const { events: written } of unit) {
    for (const event of written) {
      events.push(event);
      characters += event.length;
      if (events.length >= MOST_BATCH_EVENTS || characters >= MOST_BATCH_CHARACTERS) close();
    }
  }
  close();
  return batches;
}
