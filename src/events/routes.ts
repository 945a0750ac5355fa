import { createHmac } from "node:crypto";
import { Router, type Request, type RequestHandler, type Response } from "express";
import type { Clock } from "../core/clock.ts";
import { Failure } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { allow, sendJson } from "../http/answer-errors.ts";
import { addressOf } from "../http/client-address.ts";
import { createCrossOrigin } from "../http/cross-origin.ts";
import { letGoOn } from "../http/expect-continue.ts";
import { createPlaces } from "../http/places.ts";
import { readBody } from "../http/read-body.ts";
import type { RateLimits } from "../http/rate-limit.ts";
import type { AcceptEvents } from "./accept.ts";
import type { Event } from "./messages.ts";
import { readEvent } from "./read-event.ts";
import { MOST_EVENT_BYTES, parseJson, readEvents } from "./read-events.ts";
import type { TurnedAway } from "./turned-away.ts";

export interface EventDoorSettings {
  acceptEvents: AcceptEvents;
  turnedAway: TurnedAway;
  /** Of events a minute, by "events". */
  rates: RateLimits;
  maxAgeDays: number;
  /** Makes visitors of the day unguessable. */
  secret: string;
  clock: Clock;
}

const DAY_MS = 86_400_000;
/** A body up to this is read without a place: that many bytes each connection may hold anyway. */
const SMALL_BODY_BYTES = 4 * 1024;
/** Of a body whose length is not said beforehand: what it may hold has to be set aside while it comes. */
const MOST_UNANNOUNCED_BYTES = 1024 * 1024;
const MOST_EVENTS_BYTES = 10 * 1024 * 1024; // 10,000 events of a kilobyte
const UNANNOUNCED = "Without a Content-Length one request takes at most 1 MiB of events. With it: 10 MiB.";
/** A body as text, as values, as events, and as what is sent on. */
const COPIES = 5;
const MEMORY_BYTES = 96 * 1024 * 1024;
const MOST_BODIES = 1_000;

/** JSON by any of its names; text/plain is what navigator.sendBeacon and fetch without a preflight send. */
const JSON_TYPE = /^(application\/([\w.+-]+\+)?json|application\/(x-)?(ndjson|jsonl)|text\/plain)\s*(;|$)/i;

export type EventDoor = ReturnType<typeof createEventDoor>;

/** From a request to a promise: what a page of ours or an endpoint answers with is theirs. */
export function createEventDoor({ acceptEvents, turnedAway, rates, maxAgeDays, secret, clock }: EventDoorSettings) {
  const window = { maxAgeMs: maxAgeDays * DAY_MS };
  const places = createPlaces({ count: MOST_BODIES, memoryBytes: MEMORY_BYTES });

  /** What a form of ours has. @throws Failure INVALID_EVENT, TOO_MANY_REQUESTS, EVENTS_BACKLOG_FULL; Unavailable */
  async function takeInput(req: Request, res: Response, input: unknown): Promise<void> {
    try {
      await acceptInput(req, res, input, addressOf(req));
    } catch (error) {
      throw turnedAway.counted(error);
    }
  }

  function acceptInput(req: Request, res: Response, input: unknown, address: string): Promise<void> {
    const event = reader(req)(input);
    if (typeof event === "string") throw new Failure("INVALID_EVENT", event);
    return acceptLimited(res, address, [event]);
  }

  function acceptLimited(res: Response, address: string, events: Event[]): Promise<void> {
    return rates.limited(res, { events: address }, () => acceptEvents.accept(events), events.length);
  }

  /** A single event, as JSON. @throws Failure; see docs/errors.md */
  async function takeOne(req: Request, res: Response): Promise<void> {
    const address = addressOf(req);
    let giveBack: (() => void) | undefined;
    try {
      giveBack = welcome(req, res, address, MOST_EVENT_BYTES);
      await acceptInput(req, res, parseJson(await readBody(req, MOST_EVENT_BYTES, "EVENTS_TOO_LARGE")), address);
    } catch (error) {
      throw turnedAway.counted(error);
    } finally {
      giveBack?.();
    }
  }

  /** @returns how many are promised, and what is wrong with the others; @throws Failure; see docs/errors.md */
  async function takeMany(req: Request, res: Response) {
    const announced = req.headers["content-length"] !== undefined;
    const mostBytes = announced ? MOST_EVENTS_BYTES : MOST_UNANNOUNCED_BYTES;
    const address = addressOf(req);
    let giveBack: (() => void) | undefined;
    try {
      giveBack = welcome(req, res, address, mostBytes);
      const body = await readBody(req, mostBytes, "EVENTS_TOO_LARGE", announced ? undefined : UNANNOUNCED);
      const { events, refused } = await readEvents(body, reader(req));
      if (events.length > 0) await acceptLimited(res, address, events);
      return { accepted: events.length, refused };
    } catch (error) {
      throw turnedAway.counted(error);
    } finally {
      giveBack?.();
    }
  }

  /**
   * Refuses before a byte of the body is read, or tells a client that waits to go on.
   * @returns what gives its place back
   * @throws Failure UNSUPPORTED_MEDIA_TYPE, EVENTS_TOO_LARGE, TOO_MANY_REQUESTS, EVENTS_BACKLOG_FULL, TOO_BUSY
   */
  function welcome(req: Request, res: Response, address: string, mostBytes: number): () => void {
    assertJson(req);
    const sizeBytes = Number(req.headers["content-length"] ?? mostBytes);
    if (sizeBytes > mostBytes) throw new Failure("EVENTS_TOO_LARGE");
    acceptEvents.assertRoom();
    rates.limited(res, { events: address }, () => {}, 0);
    const giveBack = sizeBytes <= SMALL_BODY_BYTES ? () => {} : takePlace(address, COPIES * sizeBytes);
    letGoOn(req, res);
    return giveBack;
  }

  function takePlace(address: string, needsBytes: number): () => void {
    if (places.takenBy(address, needsBytes)) throw new Failure("TOO_BUSY");
    return places.take(address, needsBytes);
  }

  function reader(req: Request): (input: unknown) => Event | string {
    const now = clock.now().getTime();
    return (input) => readEvent(input, now, window, (siteId) => visitorOf(req, siteId, now));
  }

  /**
   * A visitor without a cookie: whoever comes to this site on this day of UTC from this address with this browser. Tomorrow it is
   * another one. Who has the secret could find the address by trying all there are; nobody else can read anything from it.
   */
  function visitorOf(req: Request, siteId: string, now: number): string {
    const parts = [new Date(now).toISOString().slice(0, 10), siteId, req.ip ?? "", req.headers["user-agent"] ?? ""];
    return `~${createHmac("sha256", secret).update(JSON.stringify(parts)).digest("base64url").slice(0, 22)}`;
  }

  return { takeOne, takeMany, takeInput };
}

/** @throws Failure UNSUPPORTED_MEDIA_TYPE */
function assertJson(req: Request): void {
  const type = req.headers["content-type"];
  if (type !== undefined && !JSON_TYPE.test(type)) {
    throw new Failure("UNSUPPORTED_MEDIA_TYPE", "Send JSON, and say so: Content-Type: application/json (curl: -H 'Content-Type: application/json').");
  }
}

const ACCEPTED = JSON.stringify({ status: "accepted" });
const ACCEPTED_HEADERS = { "Content-Type": "application/json; charset=utf-8", "Content-Length": Buffer.byteLength(ACCEPTED) };

/**
 * POST /event and POST /events, for programs, and for pages of other origins.
 * @param origins  of pages that may send, or "*"
 */
export function createEventsRouters({ door, origins, log }: { door: EventDoor; origins: readonly string[]; log: Log }): [RequestHandler, Router] {
  const router = Router();
  const { admit, preflight } = createCrossOrigin(origins, ["POST"]);

  async function takeOne(req: Request, res: Response): Promise<void> {
    admit(req, res);
    await door.takeOne(req, res);
    res.writeHead(202, ACCEPTED_HEADERS).end(ACCEPTED);
  }

  router.route("/event")
    .post(takeOne)
    .options(preflight)
    .all(allow("POST", "OPTIONS"));

  router.route("/events")
    .post(async (req, res) => {
      admit(req, res);
      const { accepted, refused } = await door.takeMany(req, res);
      if (accepted > 0) return sendJson(res, 202, { status: "accepted", accepted, refused });
      const { status, code } = new Failure("INVALID_EVENT");
      log.debug({ requestId: res.locals.requestId, code }, "request refused");
      sendJson(res, status, { error: "None of the events is valid.", code, request_id: res.locals.requestId, accepted, refused });
    })
    .options(preflight)
    .all(allow("POST", "OPTIONS"));

  // As nearly all requests are written: a router and a route would be a twentieth of an event's time.
  const shortcut: RequestHandler = (req, res, next) => (req.method === "POST" && req.url === "/event" ? takeOne(req, res).catch(next) : next());
  return [shortcut, router];
}
