import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { createHash } from "node:crypto";
import type { Log } from "../core/log.ts";
import type { Database, Db } from "./pool.ts";
import { chooseTimeSeries, type TimeSeriesKind } from "./time-series.ts";

const LOCK = "connectstorm:migrate";
const FILE_NAME = /^(\d{3}_[a-z-]+)(?:\.(timescale|native))?\.sql$/;

/**
 * Applies the files of `folder` that this database has not seen, in order of their number, all in one transaction: either
 * the database is up to date or nothing has changed. Where a file has twins, the one for the kind of time series in use.
 * Safe to run from many processes at once.
 * @returns the names applied now
 * @throws Error when a file that was applied has changed since: migrations only go forward
 */
export async function migrate({ db, folder, timeSeries, log }: {
  db: Database;
  folder: string;
  timeSeries: TimeSeriesKind | "auto";
  log: Log;
}): Promise<{ applied: string[]; kind: TimeSeriesKind }> {
  const { kind, reason } = await chooseTimeSeries(db, timeSeries);
  if (reason) log.warn({ reason }, "TimescaleDB is not used: the ledger is partitioned by PostgreSQL itself");
  return db.transaction(async (tx) => {
    await tx.query("set local lock_timeout = 0"); // wait for whoever is migrating, however long it takes
    await tx.query("set local statement_timeout = 0");
    await tx.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [LOCK]);
    await tx.query(`create table if not exists schema_migrations (
      name text primary key, sha256 text not null, applied_at timestamptz not null default now())`);
    const applied = await applyNew(tx, await readMigrations(folder, kind));
    for (const name of applied) log.info({ migration: name }, "migration applied");
    return { applied, kind };
  });
}

interface Migration {
  name: string;
  sql: string;
  sha256: string;
}

async function readMigrations(folder: string, kind: TimeSeriesKind): Promise<Migration[]> {
  const migrations: Migration[] = [];
  for (const file of (await readdir(folder)).sort()) {
    if (!file.endsWith(".sql")) continue;
    const [, name, twin] = FILE_NAME.exec(file) ?? [];
    if (!name) throw new Error(`sql/${file} is not named like 001_what-it-does.sql or 001_what-it-does.timescale.sql`);
    if (twin && twin !== kind) continue;
    const sql = await readFile(join(folder, file), "utf8");
    migrations.push({ name, sql, sha256: createHash("sha256").update(sql).digest("hex") });
  }
  return migrations;
}

async function applyNew(tx: Db, migrations: Migration[]): Promise<string[]> {
  const { rows } = await tx.query<{ name: string; sha256: string }>("select name, sha256 from schema_migrations order by name");
  const known = new Map(rows.map((row) => [row.name, row.sha256]));
  const applied: string[] = [];
  for (const { name, sql, sha256 } of migrations) {
    const seen = known.get(name);
    if (seen !== undefined && seen !== sha256) throw new Error(`sql/${name} was changed after it had been applied; write a new migration instead`);
    if (seen !== undefined) continue;
    await tx.query(sql);
    await tx.query("insert into schema_migrations (name, sha256) values ($1, $2)", [name, sha256]);
    applied.push(name);
  }
  return applied;
}
