import { mkdtemp, rm, writeFile, cp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { chooseTimeSeries, openTimeSeries } from "../../src/db/time-series.ts";
import { createLedgerUpkeep } from "../../src/uploads/retention.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

const DAY_MS = 86_400_000;
const SQL = join(import.meta.dirname, "../../sql");

describe.each(["timescale", "native"] as const)("the ledger on %s", (kind) => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ TIME_SERIES: kind });
  });
  afterAll(() => world.close());

  test("answers the two questions every operator asks", async () => {
    for (let i = 0; i < 12; i++) await world.put(`${i}.txt`, `${i}`);
    await world.settleAll();
    expect(await world.sql("SELECT COUNT(*) FROM file_events")).toEqual([{ count: 12 }]);
    const newest = await world.sql<{ file_name: string }>("SELECT * FROM file_events ORDER BY event_time DESC LIMIT 10");
    expect(newest.map((row) => row.file_name)).toEqual(Array.from({ length: 10 }, (_, i) => `${11 - i}.txt`));
  });

  test("is of the kind that /ready, the counts and the catalogue name", async () => {
    expect((await (await fetch(`${world.url}/ready`)).json()).ledger).toBe(kind);
    expect((await (await fetch(`${world.url}/api/counts`)).json()).ledger).toBe(kind);
    const [row] = await world.sql<{ relkind: string }>("select relkind::text from pg_class where oid = 'file_events'::regclass");
    expect(row!.relkind).toBe(kind === "timescale" ? "r" : "p");
    if (kind === "timescale") {
      const hypertables = await world.sql("select hypertable_name as name from timescaledb_information.hypertables order by 1");
      expect(hypertables.map(({ name }) => name)).toEqual(["events", "file_events"]);
    }
    expect((await openTimeSeries(world.context.db)).kind).toBe(kind);
  });

  test("drops what is older than its retention, whole chunks at a time, and keeps the count true", async () => {
    const now = new Date("2026-06-15T00:00:00Z");
    const series = await openTimeSeries(world.context.db);
    const before = await world.ledger();
    for (const daysAgo of [100, 60, 40, 1]) {
      world.setClock(new Date(now.getTime() - daysAgo * DAY_MS));
      await series.prepare("file_events", new Date(now.getTime() - daysAgo * DAY_MS));
      await world.put(`old-${daysAgo}.txt`, `${daysAgo}`);
      await world.settleAll();
    }
    world.setClock(now);
    const upkeep = (retentionDays: number | undefined) => createLedgerUpkeep({
      db: world.context.db, timeSeries: async () => series, retentionDays, clock: { now: () => now }, log: world.context.log });
    expect(await upkeep(undefined).runOnce()).toBe(0);
    expect(await upkeep(50).runOnce()).toBe(2);
    expect(await upkeep(50).runOnce()).toBe(0);
    world.setClock(undefined);
    expect(await world.ledger()).toBe(before + 2);
    expect(await world.sql("select records from ledger_totals")).toEqual([{ records: before + 2 }]);
    expect((await world.sql("select file_name from file_events where file_name like 'old-%' order by file_name")).map((row) => row.file_name)).toEqual(["old-1.txt", "old-40.txt"]);
  });

  test("keeps what only a worker whose clock is ahead takes for old", async () => {
    const series = await openTimeSeries(world.context.db);
    await series.prepare("file_events", new Date());
    await world.put("today.txt", "today");
    await world.settleAll();
    await createLedgerUpkeep({
      db: world.context.db, timeSeries: async () => series, retentionDays: 50, clock: { now: () => new Date(Date.now() + 300 * DAY_MS) }, log: world.context.log,
    }).runOnce();
    expect(await world.sql("select file_name from file_events where file_name = 'today.txt'")).toEqual([{ file_name: "today.txt" }]);
  });

  test("keeps its kind, and says so when another is demanded", async () => {
    const other = kind === "timescale" ? "native" : "timescale";
    await expect(migrate({ db: world.context.db, folder: SQL, timeSeries: other, log: world.context.log })).rejects.toThrow(/keeps its kind/);
  });

  test("is migrated once, however many processes try, and again changes nothing", async () => {
    const again = () => migrate({ db: world.context.db, folder: SQL, timeSeries: "auto", log: world.context.log });
    expect(await Promise.all([again(), again(), again()])).toEqual(Array(3).fill({ applied: [], kind }));
  });
});

test("rows that came before their week had a partition are moved into it", async () => {
  const world = await openWorld({ TIME_SERIES: "native" });
  try {
    await world.put("a.txt", "a");
    await world.settleAll();
    expect(await world.sql("select count(*) from file_events_default")).toEqual([{ count: 1 }]);
    const series = await openTimeSeries(world.context.db);
    await series.prepare("file_events", new Date());
    await series.prepare("file_events", new Date());
    expect(await world.sql("select count(*) from file_events_default")).toEqual([{ count: 0 }]);
    expect(await world.ledger()).toBe(1);
  } finally {
    await world.close();
  }
});

describe("migrations", () => {
  let timescale: World;
  let native: World;
  beforeAll(async () => {
    [timescale, native] = await Promise.all([openWorld({ TIME_SERIES: "timescale" }), openWorld({ TIME_SERIES: "native" })]);
  });
  afterAll(() => Promise.all([timescale.close(), native.close()]));

  test("make twins with the same columns", async () => {
    const columns = (world: World) => world.sql(
      `select column_name, data_type, is_nullable, column_default from information_schema.columns
       where table_name = 'file_events' order by ordinal_position`);
    expect(await columns(native)).toEqual(await columns(timescale));
    expect((await columns(native)).length).toBeGreaterThan(10);
  });

  test("refuse a file that was changed after it had been applied, and one whose name says nothing", async () => {
    const folder = await mkdtemp(join(tmpdir(), "migrations-"));
    try {
      await cp(SQL, folder, { recursive: true });
      const run = () => migrate({ db: native.context.db, folder, timeSeries: "native", log: native.context.log });
      await writeFile(join(folder, "900_next.sql"), "create table next_thing (id integer);");
      expect((await run()).applied).toEqual(["900_next"]);
      await writeFile(join(folder, "900_next.sql"), "create table next_thing (id bigint);");
      await expect(run()).rejects.toThrow(/900_next was changed/);
      await rm(join(folder, "900_next.sql"));
      await writeFile(join(folder, "next.sql"), "select 1;");
      await expect(run()).rejects.toThrow(/not named like/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("that fail in the middle leave nothing of themselves", async () => {
    const folder = await mkdtemp(join(tmpdir(), "migrations-"));
    try {
      await cp(SQL, folder, { recursive: true });
      await rm(join(folder, "900_next.sql"), { force: true });
      await writeFile(join(folder, "901_broken.sql"), "create table half (id integer); select nonsense;");
      await expect(migrate({ db: native.context.db, folder, timeSeries: "native", log: native.context.log })).rejects.toThrow();
      expect(await native.sql("select to_regclass('half')::text as half")).toEqual([{ half: null }]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("say why where TimescaleDB is demanded and cannot be had", async () => {
    const failing = { query: async (text: string) => {
      if (text.startsWith("create extension")) throw new Error("extension is not available");
      return text.includes("to_regclass") ? { rows: [{ ledger: null }], rowCount: 1 } : { rows: [], rowCount: 0 };
    } } as never;
    await expect(chooseTimeSeries(failing, "timescale")).rejects.toThrow("extension is not available");
    expect(await chooseTimeSeries(failing, "auto")).toEqual({ kind: "native", reason: "extension is not available" });
  });

  test("say in their first lines why they are, what they lock and how to undo them", async () => {
    const { readFile } = await import("node:fs/promises");
    for (const file of await readdir(SQL)) {
      const text = await readFile(join(SQL, file), "utf8");
      expect(text, file).toMatch(/^-- /);
      expect(text, file).toMatch(/^-- Locks: .*Undo: /m);
    }
  });
});
