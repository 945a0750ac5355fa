import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const NOW = new Date("2026-11-22T12:00:00Z");

describe.each(["timescale", "native"])("what is counted once (%s)", (kind) => {
  let world: World;
  beforeAll(async () => { world = await openWorld({ TIME_SERIES: kind }); });
  afterAll(() => world.close());

  const append = (id: string, body: unknown) => world.redis.xadd(world.context.eventsStream, "*", "key", id, "body", typeof body === "string" ? body : JSON.stringify(body));
  const count = async (site: string) => {
    await world.recordAll();
    const [{ rows } = { rows: -1 }] = await world.sql<{ rows: number }>("select count(*) as rows from events where site_id = $1", [site]);
    const { total_views, unique_users } = await world.stats({ site_id: site, date: NOW.toISOString().slice(0, 10) });
    return { rows, total_views, unique_users };
  };
  const view = (site: string, user: string, id: string | null = null) => [site, "pageview", "/", user, NOW.getTime(), id];

  test("a batch that comes again, in the same delivery or a later one", async () => {
    const id = newId();
    await append(id, [view("twice", "a"), view("twice", "b")]);
    await append(id, [view("twice", "a"), view("twice", "b")]);
    expect(await count("twice")).toEqual({ rows: 2, total_views: 2, unique_users: 2 });
    await append(id, [view("twice", "a"), view("twice", "b")]);
    expect(await count("twice")).toEqual({ rows: 2, total_views: 2, unique_users: 2 });
  });

  test("the same event id: in one request, in another, at another time, alone or among others; the first one stays", async () => {
    const event = { site_id: "ids", event_type: "pageview", path: "/first", user_id: "u", event_id: "order 7", timestamp: NOW.toISOString() };
    await world.send([event, { ...event, path: "/second" }, { ...event, event_id: "order 8" }]);
    await world.send({ ...event, path: "/third", timestamp: new Date(NOW.getTime() - 86_400_000).toISOString() });
    expect(await count("ids")).toEqual({ rows: 2, total_views: 2, unique_users: 1 });
    await world.send([event]);
    await world.send(event);
    expect(await count("ids")).toEqual({ rows: 2, total_views: 2, unique_users: 1 });
    expect(await world.sql("select path from events where event_id = 'order 7'")).toEqual([{ path: "/first" }]);
  });

  test("an event id belongs to its site: another one's events are not touched by it, however the two are put together", async () => {
    await world.send([["x", "1:y"], ["x1:", "y"], ["x:", "y"], ["x", ":y"], ["xy", ""]].map(([site_id, event_id]) => ({ site_id, event_id, event_type: "pageview" })));
    await world.recordAll();
    expect(await world.sql("select count(*) from events where site_id like 'x%'")).toEqual([{ count: 5 }]);
  });

  test("events without an id are as many as were sent", async () => {
    const event = { site_id: "plain", event_type: "pageview", user_id: "u", timestamp: NOW.toISOString() };
    await world.send([event, event]);
    await world.send(event);
    expect(await count("plain")).toEqual({ rows: 3, total_views: 3, unique_users: 1 });
  });

  test("batches and ids that two workers have in hand at once", async () => {
    const [one, other] = [world.recorder("one"), world.recorder("other")];
    for (let i = 0; i < 40; i++) await append(newId(), [view("race", `u${i % 5}`, `id ${i % 10}`), view("race", `u${i}`)]);
    await Promise.all([1, 2, 3, 4].flatMap(() => [one.runOnce(1), other.runOnce(1)]));
    expect(await count("race")).toEqual({ rows: 50, total_views: 50, unique_users: 40 });
  });

  test("a user is one user of a day, whenever and in whatever batch", async () => {
    for (let batch = 0; batch < 3; batch++) {
      await append(newId(), [0, 1, 2].map((i) => ["users", "click", null, `u${i}`, NOW.getTime() - (batch + i) * 1_000_000, null]));
      await world.recordAll();
    }
    expect((await world.stats({ site_id: "users", date: "2026-11-22" })).unique_users).toBe(3);
  });

  test("characters that PostgreSQL's COPY has a meaning for stay what they are", async () => {
    const odd = ["\\N", "\\.", "a\tb", "a\nb\r\nc", "\\", "\\t", "\"',", "{}", "\u0001\u007f", "日本 😀", "NULL"];
    await world.send(odd.map((path) => ({ site_id: "odd", event_type: "pageview", path, user_id: path, event_id: path })));
    await world.recordAll();
    const rows = await world.sql<{ path: string; user_id: string; event_id: string }>("select path, user_id, event_id from events where site_id = 'odd' order by id");
    expect(rows).toEqual(odd.map((path) => ({ path, user_id: path, event_id: path })));
    const { top_paths } = await world.stats({ site_id: "odd", limit: "20" });
    expect(top_paths.map(({ path }) => path).sort()).toEqual([...odd].sort());
  });

  test("of a batch in which some events are refused, however many, the others are counted, and those can be put back", async () => {
    const bad = (user: string) => ["x".repeat(300), "pageview", "/", user, NOW.getTime(), null];
    const good = (user: number, id: string | null = null) => view("apart", `u${user}`, id);
    const id = newId();
    const many = [good(1), bad("a"), good(2, "twice"), good(3, "twice"), ...Array.from({ length: 300 }, (_, i) => (i % 50 === 7 ? bad(`b${i}`) : good(i))), bad("last")];
    await append(id, many);
    expect(await count("apart")).toEqual({ rows: 296, total_views: 296, unique_users: 294 });
    await append(id, many); // delivered again
    expect(await count("apart")).toEqual({ rows: 296, total_views: 296, unique_users: 294 });
    const [dead, ...others] = await world.sql<{ batch_id: string; message: string; events: number }>("select batch_id, message, events from event_dead_letters where message like '%\"b57\"%'");
    expect([others.length, dead!.events, (JSON.parse(dead!.message) as string[][]).map(([, , , user]) => user)]).toEqual([0, 8, ["a", "b7", "b57", "b107", "b157", "b207", "b257", "last"]]);
    for (let times = 0; times < 2; times++) await append(dead!.batch_id, dead!.message.replaceAll("x".repeat(300), "apart"));
    expect(await count("apart")).toEqual({ rows: 304, total_views: 304, unique_users: 302 });
    await append(newId(), Array.from({ length: 500 }, (_, i) => bad(`c${i}`))); // all of them: it has to end soon
    await world.recordAll();
    expect(await world.sql("select events from event_dead_letters where message like '%\"c499\"%'")).toEqual([{ events: 500 }]);
    await world.sql("delete from event_dead_letters");
  });

  test("of a batch that is refused as late as at the COMMIT the others are counted as well", async () => {
    await world.sql("create table allowed (name text primary key)");
    await world.sql("insert into allowed values ('fine')");
    await world.sql("create function check_site() returns trigger language plpgsql as $$ begin if new.site_id = 'forbidden' and not exists (select from allowed where name = new.site_id) then raise exception 'not allowed' using errcode = '23503'; end if; return null; end $$");
    await world.sql("create constraint trigger deferred_check after insert on event_quarters deferrable initially deferred for each row execute function check_site()");
    await append(newId(), [view("late", "a"), view("forbidden", "b"), view("late", "c")]);
    expect(await count("late")).toEqual({ rows: 2, total_views: 2, unique_users: 2 });
    expect(await world.sql("select events, reason from event_dead_letters")).toEqual([{ events: 1, reason: "not allowed" }]);
    await append(newId(), [view("late", "d")]);
    expect(await count("late")).toEqual({ rows: 3, total_views: 3, unique_users: 3 });
    expect(await world.redis.xlen(world.context.eventsStream)).toBe(0);
    await world.sql("drop trigger deferred_check on event_quarters");
    await world.sql("delete from event_dead_letters");
  });

  test("a batch of which only all events together are refused is kept as it was, and can be put back", async () => {
    await world.sql("alter table event_quarters add constraint sum_bound check (site_id <> 'sum' or events < 3)");
    const id = newId();
    await append(id, ["a", "b", "c"].map((user) => view("sum", user)));
    expect(await count("sum")).toEqual({ rows: 0, total_views: 0, unique_users: 0 });
    const [dead] = await world.sql<{ batch_id: string; message: string; events: number }>("select batch_id, message, events from event_dead_letters");
    expect([dead!.batch_id, dead!.events]).toEqual([id, 3]);
    await world.sql("alter table event_quarters drop constraint sum_bound");
    for (let times = 0; times < 2; times++) await append(dead!.batch_id, dead!.message);
    expect(await count("sum")).toEqual({ rows: 3, total_views: 3, unique_users: 3 });
    await world.sql("delete from event_dead_letters");
  });

  test("of entries that are no batches each is kept for a person to look at, and the others are counted", async () => {
    await append("no id", "[]");
    await append(newId(), "{");
    await append(newId(), [["poison", "pageview"]]);
    await append(newId(), [view("good", "u")]);
    const tooLong = newId();
    await append(tooLong, [["x".repeat(300), "pageview", null, null, NOW.getTime(), null]]); // what the database refuses
    await append(newId(), [view("good", "u")]);
    expect(await count("good")).toEqual({ rows: 2, total_views: 2, unique_users: 1 });
    const dead = await world.sql<{ batch_id: string; reason: string; events: number | null }>("select batch_id, reason, events from event_dead_letters order by id");
    expect(dead.map(({ reason, events }) => [reason, events])).toEqual([
      ["it is no batch of events", null], ["it is no batch of events", null], ["it is no batch of events", null],
      ["value too long for type character varying(255)", 1],
    ]);
    expect(dead[3]!.batch_id).not.toBe(tooLong); // under which it counts as recorded
    expect(await world.redis.xlen(world.context.eventsStream)).toBe(0);
    const intake = await (await fetch(`${world.url}/stats/intake`)).json();
    expect(intake).toMatchObject({ waiting_batches: 0, dead_batches: 4, dead_events: 1, degraded: [] });
  });
});
