import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const NOW = new Date("2026-03-30T12:00:00Z"); // the day after summer time began in Europe

describe("figures of events", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
    world.setClock(NOW);
    await world.send([
      ...["2026-03-27T22:59:59Z", "2026-03-27T23:00:00Z", "2026-03-28T00:00:00Z", "2026-03-28T22:59:00Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:00Z", "2026-03-29T22:00:00Z"]
        .map((timestamp, i) => ({ site_id: "zones", event_type: "pageview", path: `/${i}`, user_id: `u${i % 3}`, timestamp })),
      { site_id: "zones", event_type: "click", path: "/0", user_id: "clicker", timestamp: "2026-03-28T10:00:00Z" },
      { site_id: "zones", event_type: "pageview", timestamp: "2026-03-28T10:00:00Z" },
      { site_id: "nepal", event_type: "pageview", path: "/", user_id: "a", timestamp: "2026-03-28T18:14:59Z" },
      { site_id: "nepal", event_type: "pageview", path: "/", user_id: "b", timestamp: "2026-03-28T18:15:00Z" },
      { site_id: "today", event_type: "pageview", path: "/b" }, { site_id: "today", event_type: "pageview", path: "/a" }, { site_id: "today", event_type: "pageview", path: "/c" },
    ]);
    await world.recordAll();
  });
  afterAll(() => world.close());

  const get = async (address: string) => {
    const answer = await fetch(`${world.url}${address}`);
    return { status: answer.status, body: await answer.json() };
  };

  test("a day of UTC: views are of the type pageview, users of any type, paths of views that have one", async () => {
    expect(await world.stats({ site_id: "zones", date: "2026-03-28" })).toEqual({
      site_id: "zones", date: "2026-03-28", total_views: 4, unique_users: 4,
      top_paths: [{ path: "/2", views: 1 }, { path: "/3", views: 1 }, { path: "/4", views: 1 }],
    });
  });

  test("a day elsewhere is that day, also the short one on which summer time begins", async () => {
    const berlin = (date: string) => world.stats({ site_id: "zones", date, tz: "Europe/Berlin" });
    expect(await berlin("2026-03-27")).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/0", views: 1 }] });
    expect(await berlin("2026-03-28")).toMatchObject({ total_views: 4, unique_users: 4, top_paths: [{ path: "/1" }, { path: "/2" }, { path: "/3" }] });
    expect(await berlin("2026-03-29")).toMatchObject({ total_views: 2, unique_users: 2, top_paths: [{ path: "/4" }, { path: "/5" }] }); // 23 hours
    expect(await berlin("2026-03-30")).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/6" }] });
  });

  test("zones that are a quarter of an hour apart from full hours are exact", async () => {
    const nepal = async (date: string) => (await world.stats({ site_id: "nepal", date, tz: "Asia/Kathmandu" })).unique_users;
    expect([await nepal("2026-03-28"), await nepal("2026-03-29")]).toEqual([1, 1]);
    expect((await world.stats({ site_id: "nepal", date: "2026-03-28" })).unique_users).toBe(2);
  });

  test.each([
    ["Atlantic/Azores", "2025-10-26", "2025-10-26T00:30:00Z", 25], // 01:00 becomes 00:00
    ["America/Havana", "2025-11-02", "2025-11-02T04:30:00Z", 25],
    ["Africa/Cairo", "2025-04-25", "2025-04-24T22:15:00Z", 23], // 00:00 becomes 01:00
    ["Australia/Lord_Howe", "2025-10-05", "2025-10-04T13:30:00Z", 24], // half an hour is left out
  ])("a midnight that comes twice, or not at all, begins the day once: %s", async (tz, date, timestamp, hours) => {
    const site_id = `midnight ${tz}`;
    await world.send({ site_id, event_type: "pageview", path: "/", user_id: "u", timestamp });
    await world.recordAll();
    const [before, after] = [-1, 1].map((days) => new Date(Date.parse(date) + days * 86_400_000).toISOString().slice(0, 10));
    expect(await world.stats({ site_id, date, tz })).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/", views: 1 }] });
    for (const other of [before!, after!]) expect(await world.stats({ site_id, date: other, tz })).toMatchObject({ total_views: 0, unique_users: 0, top_paths: [] });
    for (const from of [before!, date]) {
      const { body } = await get(`/stats/series?${new URLSearchParams({ site_id, tz, from, to: after! })}`);
      expect([body.total, body.points.find((point: { date: string }) => point.date === date).events]).toEqual([1, 1]);
    }
    const byHour = (await get(`/stats/series?${new URLSearchParams({ site_id, tz, from: date, to: date, interval: "hour" })}`)).body;
    expect([byHour.points.length, byHour.total]).toEqual([hours, 1]);
    expect((await get(`/stats/types?${new URLSearchParams({ site_id, tz, from: date, to: date })}`)).body.types).toEqual([{ event_type: "pageview", events: 1 }]);
  });

  test("a day that a zone left out has no time, and no events", async () => {
    await world.send({ site_id: "samoa", event_type: "pageview", timestamp: "2017-01-01T00:00:00Z" });
    const { body } = await get("/stats/series?site_id=samoa&tz=Pacific/Apia&from=2011-12-29&to=2011-12-31");
    expect(body.points.map(({ time, date }: { time: string; date: string }) => [date, time])).toEqual([
      ["2011-12-29", "2011-12-29T10:00:00.000Z"], ["2011-12-30", "2011-12-30T10:00:00.000Z"], ["2011-12-31", "2011-12-30T10:00:00.000Z"],
    ]);
  });

  test("without a date it is today, where the zone is", async () => {
    expect(await world.stats({ site_id: "today" })).toMatchObject({ date: "2026-03-30", total_views: 3 });
    expect(await world.stats({ site_id: "today", tz: "Pacific/Kiritimati" })).toMatchObject({ date: "2026-03-31", total_views: 3 });
  });

  test("paths with as many views stand in order of their names, ten of them unless another number is asked for", async () => {
    await world.send(Array.from({ length: 12 }, (_, i) => ({ site_id: "paths", event_type: "pageview", path: `/${String.fromCharCode(97 + i)}` })));
    await world.recordAll();
    const paths = async (query: Record<string, string>) => (await world.stats({ site_id: "paths", ...query })).top_paths.map(({ path }) => path);
    expect((await paths({})).join("")).toBe("/a/b/c/d/e/f/g/h/i/j");
    expect((await paths({ limit: "12" })).join("")).toBe("/a/b/c/d/e/f/g/h/i/j/k/l");
    expect(await paths({ limit: "1" })).toEqual(["/a"]);
  });

  test("an unknown site and a day long ago are zeros", async () => {
    expect(await world.stats({ site_id: "nobody", date: "1971-01-01" })).toEqual({ site_id: "nobody", date: "1971-01-01", total_views: 0, unique_users: 0, top_paths: [] });
  });

  test.each([
    ["/stats", "site_id required"],
    ["/stats?site_id=", "site_id required"],
    ["/stats?site_id=a&site_id=b", "site_id: must be given once"],
    ["/stats?site_id=a&date=2026-01-01&date=2026-01-02", "date: must be given once"],
    ["/stats?site_id=a&limit=1&limit=2", "limit: must be given once"],
    ["/stats?site_id=a&tz=UTC&tz=UTC", "tz: must be given once"],
    [`/stats?site_id=${"x".repeat(256)}`, "site_id: has more than 255 characters"],
    [`/stats?site_id=${encodeURIComponent("\u{1F600}".repeat(256))}`, "site_id: has more than 255 characters"],
    ["/stats?site_id=%00", "site_id: has characters that are no text"],
    ["/stats?site_id=s&date=2026-02-30", "date: must be a day that there is, such as 2026-01-15"],
    ["/stats?site_id=s&date=yesterday", "date: must be a day that there is, such as 2026-01-15"],
    ["/stats?site_id=s&date=", "date: must be a day that there is, such as 2026-01-15"],
    ["/stats?site_id=s&tz=Mars/Base", "tz: must be a time zone's name, such as Europe/Berlin or UTC"],
    ["/stats?site_id=s&tz=CET", "tz: must be a time zone's name, such as Europe/Berlin or UTC"], // to PostgreSQL without summer time
    ["/stats?site_id=s&tz=%2B02:00", "tz: must be a time zone's name, such as Europe/Berlin or UTC"],
    ["/stats?site_id=s&limit=0", "limit: must be a whole number from 1 to 1000"],
    ["/stats?site_id=s&limit=1001", "limit: must be a whole number from 1 to 1000"],
    ["/stats?site_id=s&limit=ten", "limit: must be a whole number from 1 to 1000"],
    ["/stats/series", "site_id required"],
    ["/stats/series?site_id=s&interval=week", "interval: must be hour or day"],
    ["/stats/series?site_id=s&from=2026-03-02&to=2026-03-01", "from: lies after to"],
    ["/stats/series?site_id=s&from=2020-01-01&to=2026-03-01", "from, to: at most 731 days at a time"],
    ["/stats/series?site_id=s&from=2026-01-01&to=2026-03-01&interval=hour", "from, to: at most 31 days at a time by the hour"],
    ["/stats/types?site_id=s&from=2020-01-01&to=2026-03-01", "from, to: at most 731 days at a time"],
    ["/stats/latest?site_id=s&limit=201", "limit: must be a whole number from 1 to 200"],
  ])("%s says what is wrong", async (address, error) => {
    const { status, body } = await get(address);
    expect([status, body.code, body.error]).toEqual([400, "INVALID_QUERY", error]);
  });

  test("a series has every day, those without events as well, and begins where the zone's day does", async () => {
    const { body } = await get("/stats/series?site_id=zones&from=2026-03-26&to=2026-03-30&tz=Europe/Berlin");
    expect(body).toEqual({
      site_id: "zones", event_type: "pageview", interval: "day", tz: "Europe/Berlin", from: "2026-03-26", to: "2026-03-30", total: 8,
      points: [
        { time: "2026-03-25T23:00:00.000Z", date: "2026-03-26", events: 0 }, { time: "2026-03-26T23:00:00.000Z", date: "2026-03-27", events: 1 },
        { time: "2026-03-27T23:00:00.000Z", date: "2026-03-28", events: 4 }, { time: "2026-03-28T23:00:00.000Z", date: "2026-03-29", events: 2 },
        { time: "2026-03-29T22:00:00.000Z", date: "2026-03-30", events: 1 },
      ],
    });
  });

  test("a series by the hour has as many hours as the day has there, of the type that is asked for", async () => {
    const short = await get("/stats/series?site_id=zones&from=2026-03-29&to=2026-03-29&tz=Europe/Berlin&interval=hour");
    expect([short.body.points.length, short.body.total, short.body.points.at(-1)]).toEqual([23, 2, { time: "2026-03-29T21:00:00.000Z", events: 1 }]);
    const clicks = await get("/stats/series?site_id=zones&from=2026-03-28&to=2026-03-28&interval=hour&event_type=click");
    expect([clicks.body.points.length, clicks.body.total, clicks.body.points[10]]).toEqual([24, 1, { time: "2026-03-28T10:00:00.000Z", events: 1 }]);
  });

  test("by default a series is of the last 30 days, or of today by the hour", async () => {
    expect((await get("/stats/series?site_id=zones")).body).toMatchObject({ from: "2026-03-01", to: "2026-03-30", interval: "day", total: 8 });
    expect((await get("/stats/series?site_id=zones&interval=hour")).body).toMatchObject({ from: "2026-03-30", to: "2026-03-30" });
    expect((await get("/stats/series?site_id=zones&from=2026-03-29")).body).toMatchObject({ from: "2026-03-29", to: "2026-03-30" });
    expect((await get("/stats/series?site_id=zones&to=2026-03-28")).body).toMatchObject({ from: "2026-02-27", to: "2026-03-28", total: 6 });
  });

  test("types are counted, the latest events listed, sites named", async () => {
    expect((await get("/stats/types?site_id=zones")).body.types).toEqual([{ event_type: "pageview", events: 8 }, { event_type: "click", events: 1 }]);
    const latest = (await get("/stats/latest?site_id=zones&limit=2")).body;
    expect(latest).toEqual({ site_id: "zones", events: [
      { id: expect.any(Number), event_type: "pageview", path: "/6", user_id: "u0", timestamp: "2026-03-29T22:00:00.000Z" },
      { id: expect.any(Number), event_type: "pageview", path: "/5", user_id: "u2", timestamp: "2026-03-29T21:59:00.000Z" },
    ] });
    expect((await get("/stats/sites")).body.sites).toEqual(expect.arrayContaining(["nepal", "today", "zones"]));
  });

  test("the database's own time zone changes none of it", async () => {
    const asked = () => Promise.all([
      world.stats({ site_id: "zones", date: "2026-03-28" }), world.stats({ site_id: "zones", date: "2026-03-28", tz: "Europe/Berlin" }),
      world.figures("zones", { from: "2026-03-27", to: "2026-03-30", zone: "UTC" }),
      get("/stats/series?site_id=zones&from=2026-03-26&to=2026-03-30"), get("/stats/series?site_id=zones&from=2026-03-28&to=2026-03-28&interval=hour"), get("/stats/types?site_id=zones"),
    ]);
    const inUtc = await asked();
    for (const zone of ["Asia/Kathmandu", "America/Los_Angeles", "UTC"]) {
      await world.sql(`do $$ begin execute format('alter database %I set timezone to ${zone === "UTC" ? "''UTC''" : `''${zone}''`}', current_database()); end $$`);
      await world.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
      await world.sql("select pg_terminate_backend(pg_backend_pid())").catch(() => {});
      await eventually(async () => (await world.sql<{ zone: string }>("select current_setting('timezone') as zone"))[0]!.zone, zone);
      await world.send({ site_id: `in ${zone}`, event_type: "pageview", path: "/", user_id: "u", timestamp: "2026-03-28T23:30:00Z" });
      await world.recordAll();
      expect(await world.stats({ site_id: `in ${zone}`, date: "2026-03-28" })).toMatchObject({ total_views: 1, unique_users: 1, top_paths: [{ path: "/", views: 1 }] });
      expect(await asked()).toEqual(inUtc);
    }
  });

  test("the latest events are found by when they happened, be they of today or of years ago, and however many chunks there are", async () => {
    const event = (type: string, timestamp: string) => ({ site_id: "late", event_type: type, timestamp });
    await world.send([event("first", "2024-05-05T05:05:05Z"), event("third", "2026-03-29T10:00:00Z"), event("second", "2025-05-05T05:05:05Z"), event("a", "2026-03-29T09:50:00Z"), event("b", "2026-03-29T09:50:00Z")]);
    await world.recordAll();
    const latest = async (limit: number) => (await get(`/stats/latest?site_id=late&limit=${limit}`)).body.events.map(({ event_type }: { event_type: string }) => event_type);
    expect(await latest(1)).toEqual(["third"]);
    expect(await latest(3)).toEqual(["third", "b", "a"]);
    expect(await latest(20)).toEqual(["third", "b", "a", "second", "first"]);
  });

  test("over several days a user counts once", async () => {
    const figures = (zone: string) => world.figures("zones", { from: "2026-03-27", to: "2026-03-30", zone });
    expect(await figures("UTC")).toMatchObject({ totalViews: 8, uniqueUsers: 4 });
    expect(await figures("Europe/Berlin")).toMatchObject({ totalViews: 8, uniqueUsers: 4 });
  });

  test("a site's name may be anything that is text", async () => {
    for (const site of ["%", "_", "' or true --", "<script>alert(1)</script>", "😀".repeat(255), " ", "__proto__"]) {
      await world.send({ site_id: site, event_type: "pageview", path: "__proto__", user_id: "__proto__" });
      await world.recordAll();
      expect(await world.stats({ site_id: site })).toMatchObject({ site_id: site, total_views: 1, unique_users: 1, top_paths: [{ path: "__proto__", views: 1 }] });
    }
  });
});
