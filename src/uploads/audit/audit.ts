import type { Clock } from "../../core/clock.ts";
import { within } from "../../core/within.ts";
import type { Database } from "../../db/pool.ts";
import type { Inbox } from "../inbox.ts";
import { createInFlight, type Waiting } from "./in-flight.ts";
import * as queries from "./audit-queries.ts";
import type { Outcome } from "./audit-queries.ts";
import { REPLACED } from "../messages.ts";
import { createTallies, type Amount, type Tallied } from "./tally.ts";

export interface Audit {
  /** Null, as the next two: more uploads wait than can be read one by one. */
  acknowledged: Amount | null;
  inFlight: Amount | null;
  /** What is missing. Above zero is an alarm. */
  difference: Amount | null;
  /** What is found beyond all that a web process accepted, where that is known exactly. Above zero is an alarm, too. */
  surplus: Amount | null;
  /** What the web processes counted themselves; what was acknowledged a second time is taken off. */
  tallied: Amount;
  stored: Amount;
  failed: Amount;
  discarded: Amount;
  /** Whose tallies the difference is of. It may be less than their sum: see `replaced`. */
  missing: (Amount & { acceptedBy: string })[];
  /** So much of `missing`, nobody knows of whom, is there: its senders put it in the place of records that could not be read. */
  replaced: Amount;
  /** The surplus, by who accepted it. */
  unaccounted: (Amount & { acceptedBy: string })[];
  /** Tallies that the database does not remember yet. */
  news: (Amount & { acceptedBy: string })[];
  /** Whose tallies cannot be read: they count as what the database remembers of them, so more may be missing than is told. */
  unreadable: string[];
  asOf: Date;
  tookMs: number;
}

export interface AuditSettings {
  db: Database;
  inbox: Pick<Inbox, "store" | "list" | "findManifest">;
  clock: Clock;
  /** The tally of the process that asks, as it is now, if it is one that accepts uploads. */
  own?: { acceptedBy: string; now: () => Tallied };
  /** Who asks within this time of the last reading gets that one. */
  freshMs?: number;
  /** With more uploads in flight nothing is said about a difference. */
  mostWaiting?: number;
  /** Aborted when the process is to end: a reading is broken off. */
  stopping?: AbortSignal;
}

const FRESH_MS = 3_000;
const PAUSE_PER_READING = 25; // times as long as it took: at most 4 % of the time goes into reading
const ANSWER_WITHIN_MS = 10_000;
const DATABASE_BUDGET_MS = 3_000;
const IDS_AT_ONCE = 5_000;

export type AuditReader = ReturnType<typeof createAudit>;

/**
 * Is every acknowledged upload still somewhere? Two counts that know nothing of each other are compared, for each web
 * process apart: its tally (what it acknowledged), and what is found of it: stored, failed, discarded, in flight.
 *
 * Why uploads that move while they are counted raise no false alarm. Read in this order: tallies, inbox, database.
 * 1. A tally has an upload only after its manifest is durable, and the database remembers only tallies that were
 *    written. So whatever the tallies have when they are read is by then in the inbox or was taken out of it.
 * 2. Only three things take a manifest out: settling and reconciling, after the row in `files` (counted in `acceptances`
 *    by the same statement) or in `repeats` is committed; and discarding, whose row in dead_letters or count of
 *    discarded is there before and after. So what the inbox no longer has, the database shows if it is asked later.
 * 3. The database is read in one snapshot, begun after the inbox was. It says of each upload that was in the inbox
 *    whether its own counts have it already; only where they do not it is in flight. So nothing counts twice.
 * An acceptance is told by its id and event time, because an Idempotency-Key can bring an id back once it was settled. Then
 * it is one upload acknowledged twice; `repeats` has the second time, which is taken off the tally.
 *
 * A killed process leaves its last second out of its tally: found may exceed it, and is then itself the proof of what was
 * acknowledged. That much could hide a loss of the same process, and only of that one: nothing is set off between processes,
 * but for uploads whose senders put them in the place of damaged records. Who had counted those is not known, so nobody
 * counts them again; they are found as nobody's (REPLACED), and as much as is found of them is not missing.
 * So a surplus is an alarm only where nothing can have been left out:
 * - of a process that ended in order. Its last tally says so, and it refuses what comes after. Whatever is found of it was
 *   committed before that, and so is in its tally, or among what it says it is unsure of.
 * - of the very process that reads. What it has counted, and what it is at, is asked after the database, so it is no less.
 * One that was killed, or another one that runs, may have accepted more than its tally says, and nobody can tell.
 *
 * A tally that rotted counts as what the database remembers of it. What its process accepted after that is not known, so
 * the audit tells what it finds wrong, as ever, and does not say that all is right.
 *
 * What this does not exclude: an id that comes back within the very millisecond in which it was first accepted, or while a
 * worker that had stood still takes the same id out between two of its own steps.
 */
export function createAudit({ db, inbox, clock, own, freshMs = FRESH_MS, mostWaiting, stopping }: AuditSettings) {
  const tallies = createTallies(inbox.store, () => clock.now());
  const inFlight = createInFlight(inbox, mostWaiting, stopping);
  let believed = ""; // the difference that was seen twice
  let last: Audit | undefined;
  let freshUntil = 0;
  let reading: Promise<Audit> | undefined;

  /** The last reading, or a new one when that is old. Shared: a thousand dashboards cost as much as one. @throws Unavailable */
  function latest(): Promise<Audit> {
    if (!reading && last && performance.now() < freshUntil) return Promise.resolve(last);
    return within(ANSWER_WITHIN_MS, "inbox", read());
  }

  /** A reading of now, or the one under way. @throws Unavailable: postgres or the inbox does not answer */
  function read(): Promise<Audit> {
    return (reading ??= readTwice().then((audit) => {
      last = audit;
      freshUntil = performance.now() + Math.max(freshMs, PAUSE_PER_READING * audit.tookMs);
      return audit;
    }).finally(() => (reading = undefined)));
  }

  /** A difference is believed only when a second reading, that takes nothing as known, finds it too. */
  async function readTwice(): Promise<Audit> {
    const audit = await readOnce();
    if (audit.missing.length + audit.unaccounted.length === 0 || wrongIn(audit) === believed) return audit;
    inFlight.forget();
    const again = await readOnce();
    believed = wrongIn(again);
    return again;
  }

  async function readOnce(): Promise<Audit> {
    const startedAt = performance.now();
    const remembered = await within(DATABASE_BUDGET_MS, "postgres", queries.selectRemembered(db));
    const { tallies: seen, unreadable } = await tallies.read();
    const waiting = await inFlight.read();
    const { outcomes, counted } = await readDatabase([...(waiting?.keys() ?? [])]);
    const last = new Map([...seen].filter(([, { closed }]) => closed));
    if (own) last.set(own.acceptedBy, own.now());
    const balances = balance(remembered, seen, last, waiting, counted, outcomes);
    const replacements = balances.find(({ acceptedBy }) => acceptedBy === REPLACED)?.acknowledged ?? NONE;
    const sum = (pick: (balance: Balance) => Amount) => balances.map(pick).reduce(plus, { files: 0, bytes: 0 });
    const named = (pick: (balance: Balance) => Amount) => (waiting ? balances : [])
      .map((one) => ({ acceptedBy: one.acceptedBy, ...pick(one) })).filter(({ files, bytes }) => files + bytes > 0);
    const absent = sum(({ missing }) => missing);
    const difference = beyond(absent, replacements);
    return {
      acknowledged: waiting ? plus(sum(({ found }) => found), difference) : null,
      inFlight: waiting ? sum(({ waiting }) => waiting) : null,
      difference: waiting ? difference : null,
      surplus: waiting ? sum(({ surplus }) => surplus) : null,
      tallied: sum(({ tallied }) => tallied),
      stored: sum(({ outcome }) => ({ files: outcome.storedFiles, bytes: outcome.storedBytes })),
      failed: sum(({ outcome }) => ({ files: outcome.failedFiles, bytes: outcome.failedBytes })),
      discarded: sum(({ outcome }) => ({ files: outcome.discardedFiles, bytes: outcome.discardedBytes })),
      missing: difference.files + difference.bytes > 0 ? named(({ missing }) => missing) : [],
      replaced: beyond(absent, difference),
      unaccounted: named(({ surplus }) => surplus),
      news: newsOf(remembered, seen),
      unreadable,
      asOf: clock.now(),
      tookMs: Math.round((performance.now() - startedAt) * 10) / 10,
    };
  }

  /** In one snapshot: what became of everybody's uploads, and which of these ids are among it. */
  function readDatabase(ids: string[]) {
    return db.transaction(async (tx) => {
      await queries.holdSnapshot(tx);
      const outcomes = await queries.selectOutcomes(tx);
      const counted = new Map<string, { acceptedBy: string | null; eventTime: Date }[]>();
      for (let from = 0; from < ids.length; from += IDS_AT_ONCE) {
        for (const { id, ...acceptance } of await queries.selectCounted(tx, ids.slice(from, from + IDS_AT_ONCE))) {
          counted.set(id, [...(counted.get(id) ?? []), acceptance]);
        }
      }
      return { outcomes, counted };
    });
  }

  return { latest, read };
}

/** What one web process acknowledged, held against what is found of it. */
interface Balance {
  acceptedBy: string;
  outcome: Outcome;
  waiting: Amount;
  tallied: Amount;
  found: Amount;
  /** As often as it is known to have been, the second time that is in `repeats` included. */
  acknowledged: Amount;
  missing: Amount;
  surplus: Amount;
}

type Tallies = ReadonlyMap<string, Tallied>;
type Remembered = readonly (Amount & { acceptedBy: string })[];
type Counted = ReadonlyMap<string, readonly { acceptedBy: string | null; eventTime: Date }[]>;

/** @param last  tallies that nothing can be found beyond */
function balance(
  remembered: Remembered, seen: Tallies, last: Tallies, waiting: ReadonlyMap<string, Waiting> | undefined, counted: Counted, outcomes: Outcome[],
): Balance[] {
  const tallies = new Map<string, Amount>(seen);
  for (const { acceptedBy, ...amount } of remembered) tallies.set(acceptedBy, most(amount, tallies.get(acceptedBy)));
  const inFlight = new Map<string, Amount>();
  for (const [id, upload] of waiting ?? []) {
    if (counted.get(id)?.some((acceptance) => isThis(acceptance, upload))) continue;
    inFlight.set(upload.acceptedBy, plus({ files: 1, bytes: upload.sizeBytes }, inFlight.get(upload.acceptedBy)));
  }
  const byAcceptor = new Map(outcomes.map((outcome) => [outcome.acceptedBy, outcome]));
  return [...new Set([...tallies.keys(), ...inFlight.keys(), ...byAcceptor.keys()])].map((acceptedBy) => {
    const outcome = byAcceptor.get(acceptedBy) ?? { ...NOTHING_BECAME, acceptedBy };
    const waits = inFlight.get(acceptedBy) ?? NONE;
    const found = {
      files: outcome.storedFiles + outcome.failedFiles + outcome.discardedFiles + waits.files,
      bytes: outcome.storedBytes + outcome.failedBytes + outcome.discardedBytes + waits.bytes,
    };
    const repeated = { files: outcome.repeatedFiles, bytes: outcome.repeatedBytes };
    const tally = tallies.get(acceptedBy) ?? NONE;
    const tallied = beyond(tally, repeated);
    const acknowledged = plus(found, repeated);
    const end = last.get(acceptedBy);
    const surplus = end ? beyond(acknowledged, plus(most(end, tally), end.unsure)) : NONE;
    return { acceptedBy, outcome, waiting: waits, tallied, found, acknowledged, missing: beyond(tallied, found), surplus };
  });
}

function isThis(acceptance: { acceptedBy: string | null; eventTime: Date }, upload: Waiting): boolean {
  return acceptance.eventTime.getTime() === upload.eventTimeMs && (acceptance.acceptedBy ?? upload.acceptedBy) === upload.acceptedBy;
}

function newsOf(remembered: Remembered, seen: Tallies): Audit["news"] {
  const old = new Map(remembered.map(({ acceptedBy, ...amount }) => [acceptedBy, amount]));
  return [...seen].filter(([name, { files }]) => files > (old.get(name)?.files ?? 0)).map(([acceptedBy, amount]) => ({ acceptedBy, ...amount }));
}

/** Which of it was seen: the same again needs no second look. */
function wrongIn({ missing, unaccounted }: Audit): string {
  return JSON.stringify([missing, unaccounted]);
}

const NONE: Amount = { files: 0, bytes: 0 };
const NOTHING_BECAME = {
  storedFiles: 0, storedBytes: 0, discardedFiles: 0, discardedBytes: 0, failedFiles: 0, failedBytes: 0, repeatedFiles: 0, repeatedBytes: 0,
};

function plus(one: Amount, other: Amount = NONE): Amount {
  return { files: one.files + other.files, bytes: one.bytes + other.bytes };
}

function most(one: Amount, other: Amount = NONE): Amount {
  return { files: Math.max(one.files, other.files), bytes: Math.max(one.bytes, other.bytes) };
}

/** What there is of one more than of the other. */
function beyond(one: Amount, other: Amount): Amount {
  return { files: Math.max(0, one.files - other.files), bytes: Math.max(0, one.bytes - other.bytes) };
}

/** As the API shows it. */
export function describeAudit(audit: Audit) {
  const { acknowledged, tallied, stored, failed, discarded, inFlight, difference, surplus, unreadable } = audit;
  const nothingWrong = difference && surplus && difference.files + difference.bytes + surplus.files + surplus.bytes === 0;
  return {
    acknowledged, tallied, stored, failed, discarded, in_flight: inFlight, difference, surplus,
    balanced: nothingWrong && unreadable.length > 0 ? null : nothingWrong, // null: not known
    unreadable_tallies: unreadable.length,
    as_of: audit.asOf, took_ms: audit.tookMs,
  };
}
