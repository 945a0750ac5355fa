import { describe, expect, test } from "vitest";
import { readEvent } from "../../src/events/read-event.ts";

const NOW = Date.parse("2026-11-22T12:00:00Z");
const DAY = 86_400_000;
const read = (input: unknown, maxAgeMs = 3_650 * DAY) => readEvent(input, NOW, { maxAgeMs });
const at = (timestamp: unknown, maxAgeMs?: number) => {
  const event = read({ site_id: "s", event_type: "t", timestamp }, maxAgeMs);
  return typeof event === "string" ? event : new Date(event[4]).toISOString();
};

describe("an event as a sender wrote it", () => {
  test("needs a site and a type; the rest may be missing, null or empty", () => {
    expect(read({ site_id: "s", event_type: "t" })).toEqual(["s", "t", null, null, NOW, null]);
    expect(read({ site_id: "s", event_type: "t", path: null, user_id: "", timestamp: null })).toEqual(["s", "t", null, null, NOW, null]);
    expect(read({ site_id: "s", event_type: "t", path: "/p", user_id: "u", event_id: "e", more: { deep: [] } })).toEqual(["s", "t", "/p", "u", NOW, "e"]);
  });

  test.each([
    [{}, "site_id required"],
    [{ site_id: "" }, "site_id required"],
    [{ site_id: null, event_type: "t" }, "site_id required"],
    [{ site_id: "s" }, "event_type required"],
    [{ site_id: "s", event_type: "" }, "event_type required"],
    [{ site_id: 7, event_type: "t" }, "site_id must be a string"],
    [{ site_id: "s", event_type: "t", user_id: 7 }, "user_id must be a string"],
    [{ site_id: "s", event_type: "t", path: ["/"] }, "path must be a string"],
    [{ site_id: "s", event_type: "t", path: "a\0b" }, "path has characters that are no text"],
    [{ site_id: "s\ud800", event_type: "t" }, "site_id has characters that are no text"],
    [JSON.parse('{"__proto__": {"site_id": "s", "event_type": "t"}}'), "site_id required"],
    [Object.create({ site_id: "s", event_type: "t" }), "site_id required"],
    [null, "an event is a JSON object"], [[], "an event is a JSON object"], ["x", "an event is a JSON object"], [1, "an event is a JSON object"],
  ])("%j: %s", (input, reason) => {
    expect(read(input)).toBe(reason);
  });

  test.each([["site_id", 255], ["event_type", 255], ["path", 500], ["user_id", 255], ["event_id", 255]])("%s has at most %i characters, whatever their bytes", (field, most) => {
    const withField = (value: string) => read({ site_id: "s", event_type: "t", [field]: value });
    expect(withField("x".repeat(most))).toBeInstanceOf(Array);
    expect(withField("😀".repeat(most))).toBeInstanceOf(Array);
    expect(withField("x".repeat(most + 1))).toBe(`${field} has more than ${most} characters`);
    expect(withField("😀".repeat(most + 1))).toBe(`${field} has more than ${most} characters`);
  });

  test.each([
    ["2026-01-15T10:30:00Z", "2026-01-15T10:30:00.000Z"],
    ["2026-01-15t10:30:00z", "2026-01-15T10:30:00.000Z"],
    ["2026-01-15 10:30:00+00:00", "2026-01-15T10:30:00.000Z"],
    ["2026-01-15T10:30:00.123456+05:45", "2026-01-15T04:45:00.123Z"],
    ["2026-01-15T10:30-0330", "2026-01-15T14:00:00.000Z"],
    ["2026-01-15T10:30:00+02", "2026-01-15T08:30:00.000Z"],
    ["2024-02-29T23:59:60Z", "2024-03-01T00:00:00.000Z"],
  ])("%s is %s", (timestamp, instant) => {
    expect(at(timestamp)).toBe(instant);
  });

  test("a time a little out of the window is moved to its edge", () => {
    expect(at("2026-11-22T12:04:59Z")).toBe("2026-11-22T12:04:59.000Z");
    expect(at("2026-11-22T13:00:00Z")).toBe("2026-11-22T12:05:00.000Z");
    expect(at("2026-11-20T12:00:00Z", DAY)).toBe("2026-11-21T12:00:00.000Z");
  });

  test.each(["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2026-11-23T12:00:01Z", "2999-01-01T00:00:00Z"])(
    "%s is no clock's error but no time at all", (timestamp) => {
      expect(at(timestamp)).toMatch(/^timestamp is before the year 2000 or more than a day ahead/);
    });

  test.each(["2026-01-15T10:30:00", "2026-01-15", "yesterday", "", 1737000000, {}, "2026-01-15T10:30:00Z; drop table", "10000-01-01T00:00:00Z"].filter((value) => value !== ""))(
    "%j has no offset, or is no timestamp", (timestamp) => {
      expect(at(timestamp)).toMatch(/^timestamp must be ISO 8601 with an offset/);
    });

  test.each(["2026-02-30T10:30:00Z", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z", "2026-01-15T24:00:00Z", "2026-01-15T10:60:00Z", "2026-01-15T10:30:61Z", "2026-01-15T10:30:00+24:00"])(
    "%s is no date and time that there is", (timestamp) => {
      expect(at(timestamp)).toBe("timestamp is no date and time that there is");
    });
});
