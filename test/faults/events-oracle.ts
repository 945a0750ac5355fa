import { setTimeout as pause } from "node:timers/promises";
import { EVENTS_GROUP } from "../../src/events/messages.ts";
import { recount } from "../support/recount.ts";
import { keyOf, type SentEvent } from "./events-crowd.ts";
import type { Hub } from "./hub.ts";
import { judge, NotKept } from "./oracle.ts";

/** Who wrote down what was sent and acknowledged: a crowd, or a client of the test's own. */
export interface EventsClients {
  all: ReadonlyMap<string, SentEvent>;
  refusals(): readonly string[];
}

export interface EventsExpectation {
  crowds: EventsClients[];
  /** Whose events may be gone although they were acknowledged: they were in a Redis that lost its data. */
  mayBeLost?: EventsClients[];
  /** How many rows event_dead_letters has to have. */
  deadLetters?: number;
  /** How long the system may take to come to rest once it is whole again. */
  withinMs?: number;
  /** The parts that nobody can ask now are left out: Redis is still away. */
  withoutRedis?: boolean;
}

/**
 * THE oracle of events, for whatever happened before: each one that was acknowledged is one row, with what was sent; one
 * without an event_id is there at most as often as it was sent; the figures equal a recount; nothing waits anywhere, nothing
 * was given up but what was meant to be; and what the other oracle holds of processes and logs holds here as well.
 * @throws NotKept, with all that is wrong; any other Error where it could not be judged at all
 */
export async function judgeEvents(hub: Hub, { crowds, mayBeLost = [], deadLetters = 0, withinMs = 30_000, withoutRedis = false }: EventsExpectation): Promise<void> {
  const { firm, loose } = remember(hub, crowds, mayBeLost);
  const promised = firm.flatMap(({ all }) => [...all.values()]).filter(({ acknowledged }) => acknowledged > 0).length;
  const wrong = [...firm, ...loose].flatMap((crowd) => crowd.refusals());
  const deadline = Date.now() + withinMs;
  const look = () => findLeft(hub, promised, deadLetters, withoutRedis);
  let left = await look();
  while (left.length > 0 && Date.now() < deadline) {
    await pause(POLL_MS);
    left = await look();
  }
  wrong.push(...left);
  wrong.push(...(await compareEvents(hub, firm, loose)));
  wrong.push(...(await recount(hub.sql)));
  if (!withoutRedis) await judge(hub, { crowds: [] }).catch((error: unknown) => {
    if (!(error instanceof NotKept)) throw error;
    wrong.push(...error.wrong);
  });
  if (wrong.length > 0) throw new EventsNotKept(promised, wrong);
}

/** The promise was not kept, or something else is not as it has to be. */
export class EventsNotKept extends Error {
  readonly wrong: readonly string[];
  constructor(promised: number, wrong: readonly string[]) {
    super(`after ${promised} acknowledged events:\n- ${wrong.join("\n- ")}`);
    this.wrong = wrong;
  }
}

const POLL_MS = 50;
const crowdsOf = new WeakMap<Hub, { firm: Set<EventsClients>; loose: Set<EventsClients> }>();

/** A system that is judged again has the events of all its crowds. */
function remember(hub: Hub, crowds: EventsClients[], mayBeLost: EventsClients[]): { firm: EventsClients[]; loose: EventsClients[] } {
  const known = crowdsOf.get(hub) ?? { firm: new Set(), loose: new Set() };
  crowdsOf.set(hub, known);
  for (const crowd of crowds) known.firm.add(crowd);
  for (const crowd of mayBeLost) known.loose.add(crowd);
  return { firm: [...known.firm], loose: [...known.loose] };
}

/** What is not at rest yet. */
async function findLeft(hub: Hub, promised: number, deadLetters: number, withoutRedis: boolean): Promise<string[]> {
  const left: string[] = [];
  try {
    const [{ events = 0, dead = 0 } = {}] = await hub.sql<{ events: number; dead: number }>(
      "select (select count(*)::int from events) as events, (select count(*)::int from event_dead_letters) as dead");
    if (events < promised) left.push(`${events} of ${promised} events are recorded`);
    if (dead !== deadLetters) left.push(`${dead} dead letters of events, where ${deadLetters} were meant`);
    const spooled = (await hub.inboxKeys()).filter((key) => key.startsWith("events/"));
    if (spooled.length > 0) left.push(`${spooled.length} units in the spool`);
    if (withoutRedis) return left;
    const length = await hub.redis.xlen(hub.eventsStream);
    if (length > 0) left.push(`${length} entries in the stream of events`);
    const pending = await hub.redis.xpending(hub.eventsStream, EVENTS_GROUP).catch(() => [0]) as [number];
    if (pending[0] > 0) left.push(`${pending[0]} pending entries of events`);
  } catch (error) {
    left.push(`events cannot be judged: ${error instanceof Error ? error.message : String(error)}`);
  }
  return left;
}

interface Row {
  site_id: string;
  event_type: string;
  path: string | null;
  user_id: string | null;
  timestamp: Date;
  event_id: string | null;
}

/** Each as often as it may be, and as it was sent. */
async function compareEvents(hub: Hub, firm: EventsClients[], loose: EventsClients[]): Promise<string[]> {
  const rows = new Map<string, Row[]>();
  for (const row of await hub.sql<Row & Record<string, unknown>>("select site_id, event_type, path, user_id, timestamp, event_id from events")) {
    const key = keyOf(row);
    rows.set(key, [...(rows.get(key) ?? []), row]);
  }
  const found = { lost: [] as string[], doubled: [] as string[], changed: [] as string[], unsent: [] as string[] };
  const compare = (clients: EventsClients, isFirm: boolean) => {
    for (const [key, { event, acknowledged, sent }] of clients.all) {
      const there = rows.get(key) ?? [];
      rows.delete(key);
      if (isFirm && there.length < (event.event_id ? Math.min(acknowledged, 1) : acknowledged)) found.lost.push(key);
      if (there.length > (event.event_id ? Math.min(sent, 1) : sent)) found.doubled.push(key);
      if (there.some((row) => isOther(row, event))) found.changed.push(key);
    }
  };
  for (const crowd of firm) compare(crowd, true);
  for (const crowd of loose) compare(crowd, false);
  found.unsent = [...rows.keys()];
  return [
    ...tell(found.lost, (count, such) => `LOST: ${count} acknowledged events are not there, such as ${such}`),
    ...tell(found.doubled, (count, such) => `DOUBLED: ${count} events are there more often than they may be, such as ${such}`),
    ...tell(found.changed, (count, such) => `${count} events are not as they were sent, such as ${such}`),
    ...tell(found.unsent, (count, such) => `${count} events were sent by nobody, such as ${such}`),
  ];
}

function isOther(row: Row, { event_type, path, user_id, timestamp }: SentEvent["event"]): boolean {
  return row.event_type !== event_type || row.path !== (path ?? null) || row.user_id !== (user_id ?? null) || (timestamp !== undefined && row.timestamp.getTime() !== Date.parse(timestamp));
}

function tell(keys: readonly string[], sentence: (count: number, such: string) => string): string[] {
  return keys.length > 0 ? [sentence(keys.length, keys[0]!)] : [];
}
