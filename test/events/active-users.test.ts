import { beforeEach, describe, expect, test } from "vitest";
import { createActiveUsers } from "../../src/events/active-users.ts";
import { rollUp } from "../../src/events/rollup.ts";

const MINUTE_MS = 60_000;
const NOON = Date.parse("2026-11-22T12:00:00Z");

describe("users that are known to be in the database", () => {
  let now: number;
  let known: ReturnType<typeof createActiveUsers>;
  beforeEach(() => {
    now = NOON;
    known = createActiveUsers({ now: () => now });
    known.ofServer("a");
  });

  /** Users that would be written, after which they are committed. */
  function written(users: string[], at = now, site = "s", server = "a"): string[] {
    const figures = rollUp(users.map((user) => [site, "pageview", null, user, at, null]));
    const keys: string[] = [];
    const active = known.unknownOf(figures, keys);
    known.remember(keys, figures, server);
    return active.flatMap((group) => group.users);
  }

  test("are written once a quarter of an hour and site", () => {
    expect(written(["a", "b"])).toEqual(["a", "b"]);
    expect(written(["a", "b", "c"])).toEqual(["c"]);
    expect(written(["a"], now, "other")).toEqual(["a"]);
    expect(written(["a"], now + 15 * MINUTE_MS)).toEqual(["a"]);
  });

  test("are known as long as they come, and for a minute or two after that", () => {
    written(["busy", "gone"]);
    for (let minute = 0; minute < 6; minute++) {
      now += MINUTE_MS - 1_000;
      expect(written(["busy"], NOON)).toEqual([]);
    }
    expect(written(["gone"], NOON)).toEqual(["gone"]);
  });

  test("are forgotten when nothing came for long, when a transaction failed, and when the server is another one", () => {
    written(["a"]);
    now += 3 * MINUTE_MS;
    expect(written(["a"], NOON)).toEqual(["a"]);
    known.forget();
    expect(written(["a"], NOON)).toEqual(["a"]);
    known.ofServer("a");
    expect(written(["a"], NOON)).toEqual([]);
    known.ofServer("b");
    expect(written(["a"], NOON)).toEqual(["a"]);
  });

  test("of a server that another recorder has left meanwhile are not remembered", () => {
    known.ofServer("b");
    expect([written(["a"], NOON, "s", "a"), written(["a"], NOON, "s", "b"), written(["a"], NOON, "s", "b")]).toEqual([["a"], ["a"], []]);
  });

  test("of a day whose figures a retention may drop are not remembered", () => {
    const dayAgo = NOON - 24 * 60 * MINUTE_MS;
    expect([written(["a"], dayAgo), written(["a"], dayAgo)]).toEqual([["a"], ["a"]]);
  });

  test("have the quarters of their day, those of one batch together", () => {
    const at = (time: string) => Date.parse(`2026-11-22T${time}Z`);
    const figures = rollUp([["00:00:00", "a"], ["00:14:59", "b"], ["00:15:00", "a"], ["23:59:59", "c"]].map(([time, user]) => ["s", "x", null, user!, at(time!), null]));
    expect(known.unknownOf(figures, [])).toEqual([
      { siteId: "s", day: "2026-11-22", quarters: `11${"0".repeat(94)}`, users: ["a"] },
      { siteId: "s", day: "2026-11-22", quarters: `1${"0".repeat(95)}`, users: ["b"] },
      { siteId: "s", day: "2026-11-22", quarters: `${"0".repeat(95)}1`, users: ["c"] },
    ]);
  });
});
