import { z } from "zod";
import { readJson } from "../core/read-json.ts";
import { MOST_CHARACTERS, type TextField } from "./event-text.ts";

/** The stream, under the prefix of this installation. */
export const EVENTS_STREAM = "events";
export const EVENTS_GROUP = "recorders";

export const PAGEVIEW = "pageview";

const text = (field: TextField) => z.string().min(1).max(2 * MOST_CHARACTERS[field]); // of UTF-16; the columns count characters
const optional = (field: TextField) => text(field).nullable();

/** Beyond there is no Date (https://tc39.es/ecma262/#sec-time-values-and-time-range); before 1970 nobody sends anything. */
const MOST_TIME_MS = 8.64e15;

/**
 * An event on its way: site, type, path, user, when it happened (milliseconds since 1970), the sender's id. A list, as
 * the names would be half of what Redis holds and the worker parses.
 */
const Event = z.tuple([text("site_id"), text("event_type"), optional("path"), optional("user_id"), z.number().int().min(0).max(MOST_TIME_MS), optional("event_id")]);

export type Event = z.infer<typeof Event>;

/**
 * What an entry of the stream carries: events that were accepted together, under the id by which they are recorded
 * once. The entry's key is the id, its body the list.
 */
export interface Batch {
  id: string;
  events: Event[];
}

const Events = z.array(Event).min(1);

/** Batches that were accepted together, as they wait on the disk. */
const Unit = z.array(z.object({ id: z.uuid(), events: Events })).min(1);

/** Undefined: the text is no list of events. */
export function readBody(text: string): Event[] | undefined {
  return readJson(Events, text);
}

/** Undefined: the text is no unit. */
export function readUnit(text: string): Batch[] | undefined {
  return readJson(Unit, text);
}

/** A batch on its way out: its events are JSON already. */
export interface WrittenBatch {
  id: string;
  body: string;
}

export function writeUnit(batches: readonly WrittenBatch[]): string {
  return `[${batches.map(({ id, body }) => `{"id":"${id}","events":${body}}`).join(",")}]`;
}
