import { randomUUID } from "node:crypto";
import type { EventsShape, RequestShape } from "./job.ts";
import type { PreparedRequest } from "./request.ts";

/** What a small company's sites send: a few paths have most of the views. */
const SITES = 5;
const PATHS = 2_000;
const USERS = 50_000;
const PAGEVIEW_SHARE = 0.9;
const OTHER_TYPES = ["click", "signup", "purchase"];
/** Written beforehand for each client, which then sends them again and again; with 16 clients more than there are users. */
const EVENTS_OF_A_CLIENT = 4_000;
const MOST_REQUESTS_OF_A_CLIENT = 500;
const DIGITS = 12; // the last group of a UUID

/** A draw by Zipf's law, the k-th of them k times rarer than the first: from 1 to `most`. @param random  from 0 to 1, without 1 */
export function drawZipf(most: number, random: number): number {
  return Math.floor((most + 1) ** random);
}

/** An event of now, as a sender writes it. @param eventId  undefined: it has none */
export function writeEvent(at: number, eventId: string | undefined): string {
  const isView = Math.random() < PAGEVIEW_SHARE;
  return JSON.stringify({
    site_id: `site-${1 + Math.floor(Math.random() * SITES)}`,
    event_type: isView ? "pageview" : OTHER_TYPES[Math.floor(Math.random() * OTHER_TYPES.length)],
    path: `/articles/${drawZipf(PATHS, Math.random())}`,
    user_id: `user-${Math.floor(Math.random() * USERS)}`,
    timestamp: new Date(at).toISOString(),
    event_id: eventId,
  });
}

let ids = 0;

/** Requests that hold events, one after the other; `stamp` goes on to the next one and gives each of its events an id of its own. */
export function prepareEvents(shape: RequestShape, host: string, client: number): PreparedRequest {
  const events = shape.events ?? { withIds: false };
  const count = Math.min(Math.max(Math.floor(EVENTS_OF_A_CLIENT / (events.batch ?? 1)), 2), MOST_REQUESTS_OF_A_CLIENT);
  const headers = Object.entries(shape.headers).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const idPrefix = randomUUID().slice(0, -DIGITS);
  const requests = Array.from({ length: count }, () => {
    const body = Buffer.from(writeBody(events, `${idPrefix}${"0".repeat(DIGITS)}`));
    const head = `${shape.method} ${shape.path} HTTP/1.1\r\nHost: ${host}\r\n${headers}Content-Length: ${body.length}\r\n\r\n`;
    const bytes = Buffer.concat([Buffer.from(head, "latin1"), body]);
    return { bytes, idsAt: events.withIds ? placesOf(idPrefix, bytes) : [] };
  });
  let next = client;
  return {
    first: requests[0]!.bytes,
    fillerBytes: 0,
    last: Buffer.alloc(0),
    stamp() {
      const { bytes, idsAt } = requests[next++ % count]!;
      for (const at of idsAt) bytes.write((ids++).toString(16).padStart(DIGITS, "0"), at, "latin1");
      this.first = bytes;
    },
  };
}

function writeBody({ batch, withIds }: EventsShape, eventId: string): string {
  const one = (): string => writeEvent(Date.now(), withIds ? eventId : undefined);
  return batch === undefined ? one() : `[${Array.from({ length: batch }, one).join(",")}]`;
}

/** Where the digits after each of them begin. */
function placesOf(idPrefix: string, bytes: Buffer): number[] {
  const places: number[] = [];
  for (let at = bytes.indexOf(idPrefix); at >= 0; at = bytes.indexOf(idPrefix, at + 1)) places.push(at + idPrefix.length);
  return places;
}
