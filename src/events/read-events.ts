import { isUtf8 } from "node:buffer";
import { Failure } from "../core/errors.ts";
import type { Event } from "./messages.ts";

export const MOST_EVENTS = 10_000;
/** Events looked at in one turn of the event loop: some 5 ms. */
const AT_ONCE = 2_000;

/** What is wrong with one of several events, by its place among them, counted from 0. */
export interface Refused {
  index: number;
  reason: string;
}

export interface ReadEvents {
  events: Event[];
  refused: Refused[];
}

/** @throws Failure MALFORMED_REQUEST */
export function parseJson(body: Buffer): unknown {
  if (!isUtf8(body)) throw new Failure("MALFORMED_REQUEST", "The body is not UTF-8.");
  try {
    return JSON.parse(body.toString());
  } catch (cause) {
    throw new Failure("MALFORMED_REQUEST", "The body is not JSON.", { cause });
  }
}

/**
 * A JSON array of events, or an event on each line (NDJSON; empty lines do not count). A line that is no JSON is one
 * refused event; an array that is none is refused as a whole.
 * @throws Failure MALFORMED_REQUEST, TOO_MANY_EVENTS, INVALID_EVENT: there is none
 */
export async function readEvents(body: Buffer, read: (input: unknown) => Event | string): Promise<ReadEvents> {
  const items = isArray(body) ? arrayOf(body) : linesOf(body);
  if (items.length > MOST_EVENTS) throw new Failure("TOO_MANY_EVENTS");
  if (items.length === 0) throw new Failure("INVALID_EVENT", "There is no event in it.");
  const found: ReadEvents = { events: [], refused: [] };
  for (let index = 0; index < items.length; index++) {
    if (index > 0 && index % AT_ONCE === 0) await new Promise(setImmediate); // others wait for this process as well
    const event = readOne(items[index]!, read);
    if (typeof event === "string") found.refused.push({ index, reason: event });
    else found.events.push(event);
  }
  return found;
}

type Item = { line: string } | { input: unknown };

function readOne(item: Item, read: (input: unknown) => Event | string): Event | string {
  if ("input" in item) return read(item.input);
  let input: unknown;
  try {
    input = JSON.parse(item.line);
  } catch {
    return "the line is not JSON";
  }
  return read(input);
}

function isArray(body: Buffer): boolean {
  const first = body.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09);
  return first === 0x5b; // [
}

function arrayOf(body: Buffer): Item[] {
  return (parseJson(body) as unknown[]).map((input) => ({ input }));
}

function linesOf(body: Buffer): Item[] {
  if (!isUtf8(body)) throw new Failure("MALFORMED_REQUEST", "The body is not UTF-8.");
  return body.toString().split("\n").filter((line) => line.trim() !== "").map((line) => ({ line }));
}
