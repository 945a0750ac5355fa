import { faultOf, type TextField } from "./event-text.ts";
import type { Event } from "./messages.ts";

/** Between which times events may have happened. */
export interface Window {
  maxAgeMs: number;
}

const FUTURE_MS = 5 * 60_000; // clocks that are a little ahead
const MOST_FUTURE_MS = 24 * 3_600_000; // a clock, or a zone that was forgotten; beyond, it is no time of now at all
const EARLIEST_MS = Date.UTC(2000, 0); // a clock that was never set begins at 1970 or 1980

/** RFC 3339, and the offset without its colon, as ISO 8601 has it in its basic form. */
const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)([.,]\d{1,9})?)?([Zz]|[+-]\d\d(?::?\d\d)?)$/;

/**
 * An event as a sender wrote it, or in a sentence what is wrong with it. Fields that are not known are left out.
 * @param visitorOf  who sent it, for an event that asks for a visitor of the day instead of naming a user
 */
export function readEvent(input: unknown, now: number, { maxAgeMs }: Window, visitorOf?: (siteId: string) => string): Event | string {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return "an event is a JSON object";
  const given = input as Record<string, unknown>;
  const siteId = required(given, "site_id");
  if (siteId.fault !== undefined) return siteId.fault;
  const eventType = required(given, "event_type");
  if (eventType.fault !== undefined) return eventType.fault;
  const path = optional(given, "path");
  if (path.fault !== undefined) return path.fault;
  const userId = optional(given, "user_id");
  if (userId.fault !== undefined) return userId.fault;
  const eventId = optional(given, "event_id");
  if (eventId.fault !== undefined) return eventId.fault;
  const at = given.timestamp === undefined || given.timestamp === null ? now : readTime(given.timestamp, now, maxAgeMs);
  if (typeof at === "string") return at;
  const user = userId.text ?? (given.visitor === "daily" && visitorOf ? visitorOf(siteId.text!) : null);
  return [siteId.text!, eventType.text!, path.text, user, at, eventId.text];
}

interface Read {
  text: string | null;
  fault?: string;
}

function required(given: Record<string, unknown>, field: TextField): Read {
  const read = optional(given, field);
  return read.fault === undefined && read.text === null ? { text: null, fault: `${field} required` } : read;
}

/** Missing, null and "" are the same: a form sends "" for what nobody filled in. */
function optional(given: Record<string, unknown>, field: TextField): Read {
  const value = Object.hasOwn(given, field) ? given[field] : undefined;
  if (value === undefined || value === null || value === "") return { text: null };
  if (typeof value !== "string") return { text: null, fault: `${field} must be a string` };
  const fault = faultOf(field, value);
  return fault === undefined ? { text: value } : { text: null, fault: `${field} ${fault}` };
}

/** Milliseconds since 1970, moved into the window where it is a little out of it; or what is wrong. */
function readTime(value: unknown, now: number, maxAgeMs: number): number | string {
  const parts = typeof value === "string" ? TIMESTAMP.exec(value) : null;
  if (!parts) return "timestamp must be ISO 8601 with an offset, such as 2026-01-15T10:30:00Z";
  const at = instantOf(parts);
  if (at === undefined) return "timestamp is no date and time that there is";
  if (at < EARLIEST_MS || at > now + MOST_FUTURE_MS) return "timestamp is before the year 2000 or more than a day ahead: leave it out where the clock is not set";
  return Math.min(Math.max(at, now - maxAgeMs), now + FUTURE_MS);
}

/** Undefined: there is no such day or time, such as 30 February. */
function instantOf(parts: RegExpExecArray): number | undefined {
  const [year, month, day, hour, minute, second] = parts.slice(1, 7).map((part) => Number(part ?? 0)) as [number, number, number, number, number, number];
  const millis = parts[7] ? Math.floor(Number(`0.${parts[7].slice(1)}`) * 1000) : 0;
  const local = new Date(0);
  local.setUTCFullYear(year, month - 1, day); // Date.UTC takes the years 0 to 99 for 1900 to 1999
  if (local.getUTCMonth() !== month - 1 || local.getUTCDate() !== day) return undefined;
  if (hour > 23 || minute > 59 || second > 60) return undefined; // 60: a leap second, which belongs to the next minute here
  const offsetMinutes = minutesOf(parts[8]!);
  if (offsetMinutes === undefined) return undefined;
  return local.getTime() + ((hour * 60 + minute - offsetMinutes) * 60 + second) * 1000 + millis;
}

function minutesOf(offset: string): number | undefined {
  if (offset === "Z" || offset === "z") return 0;
  const digits = offset.slice(1).replace(":", "");
  const [hours, minutes] = [Number(digits.slice(0, 2)), Number(digits.slice(2) || 0)];
  if (hours > 23 || minutes > 59) return undefined;
  return (offset[0] === "-" ? -1 : 1) * (hours * 60 + minutes);
}
