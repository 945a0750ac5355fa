import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { createLog } from "../../src/core/log.ts";
import type { Event } from "../../src/events/messages.ts";
import { createRecording } from "../../src/events/record.ts";
import { recount } from "../support/recount.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => { world = await openWorld(); });
afterAll(() => world.close());

const CHARACTERS = ["a", "b", " ", "\n", "\t", "\\", "~", "0", "ü"];
const MIDNIGHT = Date.now() - (Date.now() % 86_400_000);
const QUARTER_MS = 900_000;

const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)]!;
/** One to three of these, so that of two of them it is seldom plain where the one ends and the other begins. */
const name = () => Array.from({ length: 1 + Math.floor(Math.random() * 3) }, () => pick(CHARACTERS)).join("");
/** At the edges of quarters and days, mostly of these days. */
const time = () => MIDNIGHT + pick([-1, 0, 1]) + pick([0, 0, 1, 2, -1, -96, -960]) * QUARTER_MS;

function makeEvent() {
  return {
    site_id: name(), event_type: pick(["pageview", "pageview", name()]), path: pick([name(), `/${name()}`, null]), user_id: pick([name(), name(), null]),
    event_id: pick([name(), null]), timestamp: new Date(time()).toISOString(),
  };
}

test("whatever sites, users, paths and ids are called, no two of them are taken for one: rows are as many as were sent, and the figures their recount", async () => {
  const sent = [];
  for (let round = 0; round < 8; round++) {
    const events = Array.from({ length: 500 }, makeEvent);
    sent.push(...events);
    for (const part of [events.slice(0, 250), events.slice(250)]) expect((await world.send(part)).status).toBe(202);
    await world.recordAll();
  }
  const ids = new Set(sent.flatMap(({ site_id, event_id }) => (event_id === null ? [] : [JSON.stringify([site_id, event_id])])));
  const expected = ids.size + sent.filter(({ event_id }) => event_id === null).length;
  expect(await world.sql("select count(*)::int as events from events")).toEqual([{ events: expected }]);
  expect(await recount(world.sql)).toEqual([]);
});

/** As the clocks of the place have it: the day of each row, past our own functions. */
const COUNTED = `with found as (select * from events where site_id = $1 and (timestamp at time zone $4)::date between $2::date and $3::date)
  select (select count(*)::int from found where event_type = 'pageview') as "totalViews", (select count(distinct user_id)::int from found) as "uniqueUsers",
         (select coalesce(json_agg(top), '[]') from (select path, count(*) as views from found where event_type = 'pageview' and path is not null
            group by path order by views desc, path limit 10) as top) as "topPaths"`;

test.each([
  "UTC", "Europe/Berlin", "America/Los_Angeles", "America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "Pacific/Auckland",
  "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Marquesas", "Etc/GMT+12", "Etc/GMT-12",
])("a day of %s, a few and many of them have the figures that a recount of their events has", async (zone) => {
  const site_id = `days of ${zone}`;
  const begin = Date.UTC(2025, 9, 24); // over the end of summer time in most of them
  const { status } = await world.send(Array.from({ length: 1_500 }, (_, i) => ({
    site_id, event_type: pick(["pageview", "pageview", "click"]), path: pick([`/${i % 7}`, "/", null]), user_id: pick([`user ${i % 11}`, `only ${i}`, null]),
    timestamp: new Date(begin + Math.floor(Math.random() * 12 * 96) * QUARTER_MS + pick([0, 0, QUARTER_MS - 1])).toISOString(),
  })));
  expect(status).toBe(202);
  await world.recordAll();
  expect(await world.sql("select count(*)::int as events from events where site_id = $1", [site_id])).toEqual([{ events: 1_500 }]);
  const day = (number: number) => new Date(begin + number * 96 * QUARTER_MS).toISOString().slice(0, 10);
  for (const [from, to] of [[1, 1], [2, 2], [3, 3], [9, 9], [2, 3], [1, 4], [0, 11], [-3, 15], [11, 12]] as const) {
    const counted = await world.sql(COUNTED, [site_id, day(from), day(to), zone]);
    expect([from, to, await world.figures(site_id, { from: day(from), to: day(to), zone })]).toEqual([from, to, counted[0]]);
  }
});

test("one event's site and id together read like another's: both are there", async () => {
  const at = { event_type: "pageview", timestamp: new Date(MIDNIGHT).toISOString() };
  for (const event of [{ site_id: "together", event_id: "x\ny" }, { site_id: "together\nx", event_id: "y" }]) {
    await world.send({ ...at, ...event });
    await world.recordAll();
  }
  expect(await world.sql("select event_id from events where site_id like 'together%' order by 1")).toEqual([{ event_id: "x\ny" }, { event_id: "y" }]);
});

test("one user and site together read like another's: both are counted, also when only one of them came before", async () => {
  const at = { event_type: "pageview", timestamp: new Date(MIDNIGHT).toISOString() };
  await world.send([{ ...at, site_id: "one two", user_id: "zero" }]);
  await world.recordAll();
  await world.send([{ ...at, site_id: "two", user_id: "zero one" }]);
  await world.recordAll();
  expect((await world.stats({ site_id: "two" })).unique_users).toBe(1);
  expect(await recount(world.sql)).toEqual([]);
});

// A deadlock is ended by PostgreSQL, after a second, at the cost of one of the two, which comes again: nothing but time is lost.
describe("two workers that write the same rows at once, in opposite orders, do not lock each other out", () => {
  const events = (having: (name: string) => Partial<{ path: string; user: string; id: string }>): Event[] => Array.from({ length: 2_000 }, (_, i) => {
    const { path = null, user = null, id = null } = having(`${i}-${newId()}`);
    return ["opposite", "pageview", path, user, MIDNIGHT, id];
  });

  test.each([
    ["ids of events", (id: string) => ({ id })],
    ["paths", (path: string) => ({ path })],
    ["users", (user: string) => ({ user })],
  ])("%s", async (_what, having) => {
    const log = createLog("silent", "test");
    const workers = [createRecording({ db: world.context.db, log }), createRecording({ db: world.context.db, log })];
    for (let round = 0; round < 3; round++) {
      const forth = events(having);
      await Promise.all([forth, forth.toReversed()].map((one, i) => workers[i]!.record([{ id: newId(), events: one }])));
    }
    expect(await recount(world.sql)).toEqual([]);
  });
});
