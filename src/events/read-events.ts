import { isUtf8 } from "node:buffer";
import { Failure } from "../core/errors.ts";
import type { Event } from "./messages.ts";

export const MOST_EVENTS = 10_000;
/** Of one event, alone or among others: all its fields in characters of four bytes, escaped, and as much again. */
export const MOST_EVENT_BYTES = 64 * 1024;
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
  try {
    return JSON.parse(textOf(body).toString());
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw notJson(cause);
  }
}

/**
 * A JSON array of events, or an event on each line (NDJSON; empty lines do not count). A line that is no JSON is one
 * refused event; an array that is none is refused as a whole. Each event is cut out of the body and parsed by itself: ten
 * megabytes of brackets, parsed as a whole, would be half a gigabyte of objects.
 * @throws Failure MALFORMED_REQUEST, TOO_MANY_EVENTS, INVALID_EVENT: there is none
 */
export async function readEvents(body: Buffer, read: (input: unknown) => Event | string): Promise<ReadEvents> {
  const text = textOf(body);
  const isArray = text[skipBlanks(text, 0)] === OPENS_ARRAY;
  const found: ReadEvents = { events: [], refused: [] };
  let index = 0;
  for (const item of isArray ? itemsOf(text) : linesOf(text)) {
    if (index === MOST_EVENTS) throw new Failure("TOO_MANY_EVENTS");
    if (index > 0 && index % AT_ONCE === 0) await new Promise(setImmediate); // others wait for this process as well
    const event = readOne(item, isArray, read);
    if (typeof event === "string") found.refused.push({ index, reason: event });
    else found.events.push(event);
    index++;
  }
  if (index === 0) throw new Failure("INVALID_EVENT", "There is no event in it.");
  return found;
}

function readOne(item: Buffer, isOfArray: boolean, read: (input: unknown) => Event | string): Event | string {
  if (item.length > MOST_EVENT_BYTES) return `the event is larger than ${MOST_EVENT_BYTES / 1024} KiB`;
  let input: unknown;
  try {
    input = JSON.parse(item.toString());
  } catch (cause) {
    if (isOfArray) throw notJson(cause);
    return "the line is not JSON";
  }
  return read(input);
}

// Of ASCII, which in UTF-8 are part of no other character.
const [OPENS_ARRAY, CLOSES_ARRAY, OPENS_OBJECT, CLOSES_OBJECT, COMMA, QUOTE, BACKSLASH, NEWLINE] = [0x5b, 0x5d, 0x7b, 0x7d, 0x2c, 0x22, 0x5c, 0x0a];

/** The array's items, each as it stands there. What is in them is for JSON.parse to judge. */
function* itemsOf(text: Buffer): Generator<Buffer> {
  let depth = 0;
  let from = skipBlanks(text, 0) + 1;
  if (text[skipBlanks(text, from)] === CLOSES_ARRAY) return assertEnd(text, skipBlanks(text, from) + 1);
  for (let at = from; at < text.length; at++) {
    const byte = text[at];
    if (byte === QUOTE) {
      at = endOfString(text, at);
    } else if (byte === OPENS_OBJECT || byte === OPENS_ARRAY) {
      depth++;
    } else if ((byte === CLOSES_OBJECT || byte === CLOSES_ARRAY) && depth > 0) {
      depth--;
    } else if (byte === COMMA && depth === 0) {
      yield text.subarray(from, at);
      from = at + 1;
    } else if (byte === CLOSES_ARRAY) {
      yield text.subarray(from, at);
      return assertEnd(text, at + 1);
    }
  }
  throw notJson();
}

/** Where the string's closing quote is; the end of the text where there is none. */
function endOfString(text: Buffer, from: number): number {
  for (let at = from + 1; ;) {
    const quote = text.indexOf(QUOTE, at);
    if (quote === -1) return text.length;
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote;
    at = quote + 1;
  }
}

function assertEnd(text: Buffer, at: number): void {
  if (skipBlanks(text, at) < text.length) throw notJson();
}

function* linesOf(text: Buffer): Generator<Buffer> {
  for (let from = skipBlanks(text, 0); from < text.length;) {
    const newline = text.indexOf(NEWLINE, from);
    const end = newline === -1 ? text.length : newline;
    yield text.subarray(from, end);
    from = skipBlanks(text, end);
  }
}

/** Where the next byte stands that is none of JSON's blanks. */
function skipBlanks(text: Buffer, from: number): number {
  let at = from;
  while (text[at] === 0x20 || text[at] === 0x0a || text[at] === 0x0d || text[at] === 0x09) at++;
  return at;
}

/** Without the mark that some editors put in front of UTF-8. @throws Failure MALFORMED_REQUEST */
function textOf(body: Buffer): Buffer {
  if (!isUtf8(body)) throw new Failure("MALFORMED_REQUEST", "The body is not UTF-8.");
  return body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body;
}

function notJson(cause?: unknown): Failure {
  return new Failure("MALFORMED_REQUEST", "The body is not JSON.", { cause });
}
