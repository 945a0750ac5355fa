import { afterAll, beforeAll, expect, test } from "vitest";
import { openWorld, type World } from "./world.ts";
import { recount } from "./recount.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
  const at = (time: string, event: object) => ({ site_id: "a", event_type: "pageview", timestamp: `2026-11-20T${time}Z`, ...event });
  await world.send([
    at("00:00:00", { path: "/", user_id: "u1", event_id: "1" }),
    at("00:14:59.999", { path: "/", user_id: "u1" }),
    at("00:15:00", { path: "/" }),
    at("23:59:59.999", { path: "/ü", user_id: "u2" }),
    at("12:00:00", { user_id: "u1", event_type: "click", path: "/" }),
    at("12:00:00", { user_id: "u1" }),
    at("12:00:00", { site_id: "b", path: "/" }),
  ]);
  await world.recordAll();
});
afterAll(() => world.close());

test("figures that are right differ in nothing", async () => {
  expect(await world.sql("select count(*)::int as events, count(distinct site_id)::int as sites from events")).toEqual([{ events: 7, sites: 2 }]);
  expect(await recount(world.sql)).toEqual([]);
});

const QUARTERS = "a, 2026-11-20T00:00:00+00:00, pageview";
const PATHS = "a, 2026-11-20T00:00:00+00:00, /, 8a5edab2-8263-2443-219e-051e4ade2d1d";
const EARLY = `1${"0".repeat(95)}`;
const AT_NOON = `1${"0".repeat(47)}1${"0".repeat(47)}`;

test.each<[string, string, RegExp[]]>([
  ["a quarter with an event too many", "update event_quarters set events = events + 1 where site_id = 'a' and begins_at = '2026-11-20T00:00Z'",
    [/^event_quarters has 3 and a recount 2 of a, .*, pageview; 1 rows differ$/]],
  ["a quarter that is not there", "delete from event_quarters where site_id = 'b'", [/^event_quarters has no row and a recount 1 of b, /]],
  ["a quarter of nothing", "insert into event_quarters values ('c', '2026-11-20T00:00Z', 'pageview', 0)", [/^event_quarters has 0 and a recount no row of c, /]],
  ["quarters that begin at another time", "update event_quarters set begins_at = begins_at + interval '1 minute' where site_id = 'b'", [/^event_quarters .*; 2 rows differ$/]],
  ["a path with a view too few", "update event_paths set views = views - 1 where site_id = 'a' and begins_at = '2026-11-20T00:00Z'", [/^event_paths has 1 and a recount 2 of a, .*, \/, /]],
  ["a path under another's key", "update event_paths set path_key = '00000000-0000-0000-0000-000000000000' where site_id = 'b'", [/^event_paths .*; 2 rows differ$/]],
  ["a path's day with a view too many", "update event_path_days set views = views + 1 where site_id = 'b'", [/^event_path_days has 2 and a recount 1 of b, 2026-11-20, \/, /]],
  ["a user of a quarter in which nothing was done", "update event_user_days set quarters = set_bit(quarters, 1, 1) where get_bit(quarters, 48) = 1",
    [new RegExp(`^event_user_days has 11.* and a recount ${AT_NOON} of a, 2026-11-20, `)]],
  ["a user with a quarter missing", "update event_user_days set quarters = set_bit(quarters, 48, 0) where get_bit(quarters, 48) = 1",
    [new RegExp(`^event_user_days has ${EARLY} and a recount ${AT_NOON} of `)]],
  ["a user who was never there", "insert into event_user_days values ('a', '2026-11-20', '00000000-0000-0000-0000-000000000000', repeat('0', 96)::bit(96))", [/^event_user_days has 0+ and a recount no row of a, /]],
  ["a day with a user too many", "update event_days set users = users + 1", [/^event_days has 3 and a recount 2 of a, 2026-11-20; 1 rows differ$/]],
  ["an event that is gone", "delete from events where site_id = 'b'", [/^event_quarters has 1 and a recount no row/, /^event_paths /, /^event_path_days /]],
  ["an event that was counted twice", "insert into events select * from events where event_id = '1'",
    [/^event_quarters /, /^event_paths /, /^event_path_days /, /^events has 2 rows of a, 1; so it is with 1 ids$/]],
])("%s is told of", async (_what, plant, told) => {
  const differences = await planted(plant);
  expect(differences).toEqual(told.map((sentence) => expect.stringMatching(sentence)));
});

test("what differs is named to the row", async () => {
  expect(await planted("update event_paths set views = 5 where site_id = 'a' and begins_at = '2026-11-20T00:00Z'"))
    .toEqual([expect.stringMatching(new RegExp(`^event_paths has 5 and a recount 2 of ${PATHS.replaceAll("+", "\\+")}; 1 rows differ$`))]);
  expect(await planted("update event_quarters set events = 7 where site_id = 'a' and begins_at = '2026-11-20T00:00Z'"))
    .toEqual([`event_quarters has 7 and a recount 2 of ${QUARTERS}; 1 rows differ`]);
});

/** What the recount says of it, in a transaction that is rolled back. */
async function planted(statement: string): Promise<string[]> {
  const undo = new Error("undo");
  let differences: string[] = [];
  await world.context.db.transaction(async (tx) => {
    await tx.query("set local time zone 'UTC'");
    await tx.query(statement);
    differences = await recount(async (text, values) => (await tx.query<never>(text, values)).rows);
    throw undo;
  }).catch((error: unknown) => {
    if (error !== undo) throw error;
  });
  return differences;
}
