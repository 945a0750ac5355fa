import pg from "pg";
import { Unavailable } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { within as settleWithin } from "../core/within.ts";
import { copyRows } from "./copy.ts";

/** One statement at a time: the pool, or a transaction on one of its connections. */
export interface Db {
  /** @throws Unavailable when the database cannot be reached or will not answer now; pg's DatabaseError otherwise. */
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<{ rows: Row[]; rowCount: number }>;
}

/** A transaction on one connection. */
export interface CopyDb extends Db {
  /** Rows into a table of ours by COPY, as copyRows says. @throws as query does */
  copy(target: string, rows: Iterable<readonly (string | null)[]>): Promise<number>;
}

/** What a request may ask for. */
export interface RequestDb extends Db {
  /** Commits when `work` resolves, rolls back when it rejects. */
  transaction<T>(work: (tx: CopyDb) => Promise<T>): Promise<T>;
}

export interface Database extends RequestDb {
  /**
   * The same database for requests that somebody waits for: a statement is given up after so long, the wait for a connection
   * included, and so is the beginning of a transaction. One that has begun takes its time: its outcome would not be known.
   * PostgreSQL gives the statement up by itself then: one that it went on with, for nobody, would hold its place among
   * max_connections while the pool opens another one.
   */
  within(budgetMs: number): RequestDb;
  /**
   * Runs `work` while this process holds the named lock; undefined, at once, when another holds it.
   * The lock goes with its connection, so a killed process never keeps it; and one that has lost its connection works on.
   */
  exclusively<T>(lock: string, work: () => Promise<T>): Promise<T | undefined>;
  close(): Promise<void>;
}

export interface DbSettings {
  uri: string;
  poolSize: number;
  /** Shown in pg_stat_activity. */
  name: string;
  log: Log;
  /** Statements may take as long as they take: for migrations. */
  patient?: boolean;
}

const CONNECT_TIMEOUT_MS = 5_000; // pg waits for ever by default
const STATEMENT_TIMEOUT_MS = 30_000;
const SILENT_AFTER_MS = 2_000; // past a request's budget: a server that does not even answer that it gave up
const QUERY_TIMEOUT_MS = 35_000; // the same, past STATEMENT_TIMEOUT_MS
const LOCK_TIMEOUT_MS = 10_000;
const IDLE_IN_TRANSACTION_MS = 60_000;

/**
 * Nothing ends the transaction for its age. transaction_timeout came with PostgreSQL 17. To be sent without parameters: that
 * also closes the portal of the statement before, which in a transaction stays open, and with it its snapshot.
 */
const LAST = `select set_config('idle_in_transaction_session_timeout', '0', true),
  case when current_setting('server_version_num')::int >= 170000 then set_config('transaction_timeout', '0', true) end`;

// bigint comes as text because it may exceed 2^53; ours count bytes and rows and do not.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

export function openDb({ uri, poolSize, name, log, patient = false }: DbSettings): Database {
  const pool = new pg.Pool({
    connectionString: uri,
    max: poolSize,
    application_name: name,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: patient ? 0 : QUERY_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    onConnect: prepare,
  });
  // Without a listener an idle connection that the server cuts ends the process.
  pool.on("error", (err) => log.warn({ err }, "an idle database connection was lost"));

  const lost = (err: Error) => log.warn({ err }, "a database connection was lost");

  async function query<Row extends pg.QueryResultRow>(text: string, values?: unknown[], budgetMs?: number) {
    const client = await connect(budgetMs);
    let broken: boolean | undefined;
    try {
      await limit(client, budgetMs ?? STATEMENT_TIMEOUT_MS);
      return await run<Row>(client, text, values, budgetMs && budgetMs + SILENT_AFTER_MS);
    } catch (error) {
      broken = !wasGivenUp(error);
      throw error;
    } finally {
      release(client, broken);
    }
  }

  async function transaction<T>(work: (tx: CopyDb) => Promise<T>): Promise<T> {
    return finish(await begin(), work);
  }

  function within(budgetMs: number): RequestDb {
    return {
      query: (text, values) => settleWithin(budgetMs, "postgres", query(text, values, budgetMs)),
      async transaction(work) {
        const beginning = begin(budgetMs);
        const client = await settleWithin(budgetMs, "postgres", beginning).catch((error: unknown) => {
          beginning.then((late) => release(late, true), () => {}); // nobody does anything in that transaction any more
          throw error;
        });
        return finish(client, work);
      },
    };
  }

  /** @returns a connection with a transaction on it; what has not begun needs no rollback, which would wait as long again */
  async function begin(budgetMs?: number): Promise<pg.PoolClient> {
    const client = await connect(budgetMs);
    try {
      const limited = limits.has(client) && limits.get(client) !== STATEMENT_TIMEOUT_MS;
      await run(client, limited ? `begin; set local statement_timeout = ${STATEMENT_TIMEOUT_MS}` : "begin", undefined, budgetMs);
      return client;
    } catch (error) {
      release(client, true);
      throw error;
    }
  }

  async function finish<T>(client: pg.PoolClient, work: (tx: CopyDb) => Promise<T>): Promise<T> {
    let broken: boolean | undefined;
    try {
      const result = await work({
        query: (text, values) => run(client, text, values),
        copy: (target, rows) => copyRows(client, target, rows).catch((error: unknown) => { throw translate(error); }),
      });
      await run(client, "commit");
      return result;
    } catch (error) {
      await client.query("rollback").catch(() => (broken = true));
      throw error;
    } finally {
      release(client, broken);
    }
  }

  /**
   * The lock belongs to a transaction, which a pooler leaves on its connection; one of a session would stay behind on a
   * connection that the unlocking may never see. Idle and without a snapshot it keeps nothing from being vacuumed.
   */
  async function exclusively<T>(lock: string, work: () => Promise<T>): Promise<T | undefined> {
    const client = await connect();
    let broken: boolean | undefined;
    try {
      await run(client, "begin isolation level read committed"); // the stricter ones keep their first snapshot
      const { rows } = await run<{ taken: boolean }>(client, "select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as taken", [lock]);
      if (!rows[0]?.taken) return undefined;
      await run(client, LAST);
      return await work();
    } finally {
      await client.query("commit").catch(() => (broken = true)); // of nothing but the lock, however the work went
      release(client, broken);
    }
  }

  /** @param budgetMs  who waited longer is gone: nothing is asked for them any more */
  async function connect(budgetMs = Infinity): Promise<pg.PoolClient> {
    const startedAt = performance.now();
    const client = await pool.connect().catch((error: unknown) => {
      throw error instanceof pg.DatabaseError ? notNow(error) : translate(error);
    });
    client.on("error", lost);
    if (performance.now() - startedAt < budgetMs) return client;
    release(client);
    throw new Unavailable("postgres", { cause: `no connection was free within ${budgetMs} ms` });
  }

  function release(client: pg.PoolClient, broken?: boolean): void {
    client.off("error", lost); // the pool has its own, for idle ones
    client.release(broken);
  }

  return { query: (text, values) => query(text, values), transaction, within, exclusively, close: () => pool.end() };
}

/**
 * Which statement_timeout a connection has now. Of one through a pooler that is not known, as each transaction may be on
 * another connection of the server's, and setting it would limit who comes next: it stays as it is set for the role there.
 */
const limits = new WeakMap<pg.ClientBase, number>();

/**
 * A COMMIT that PostgreSQL may forget in a crash would have cost the upload its entry in the inbox already. `off` is a common
 * tuning, of a server, a database or a role; the other values outlive a crash, and stronger ones than ours stay.
 */
const INSIST_ON_DURABILITY = "case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'on', false) end";

async function prepare(client: pg.ClientBase): Promise<void> {
  const statement = { text: `select pg_backend_pid() as pid, ${INSIST_ON_DURABILITY}`, query_timeout: CONNECT_TIMEOUT_MS } as pg.QueryConfig;
  const { rows } = await client.query<{ pid: number }>(statement);
  const isDirect = rows[0]?.pid === (client as { processID?: number }).processID; // a pooler welcomes with a number of its own
  if (isDirect) limits.set(client, STATEMENT_TIMEOUT_MS);
}

/** Costs nothing while all who ask have the same time. */
async function limit(client: pg.PoolClient, statementTimeoutMs: number): Promise<void> {
  if (!limits.has(client) || limits.get(client) === statementTimeoutMs) return;
  await run(client, `set statement_timeout = ${statementTimeoutMs}`, undefined, statementTimeoutMs + SILENT_AFTER_MS);
  limits.set(client, statementTimeoutMs);
}

/** @param silentAfterMs  a connection that does not answer within it is dropped; without it QUERY_TIMEOUT_MS holds */
async function run<Row extends pg.QueryResultRow>(client: pg.PoolClient, text: string, values?: unknown[], silentAfterMs?: number) {
  const statement: pg.QueryConfig & { query_timeout?: number } = { text, ...(values && { values }), ...(silentAfterMs && { query_timeout: silentAfterMs }) };
  try {
    const { rows, rowCount } = await client.query<Row>(statement);
    return { rows, rowCount: rowCount ?? 0 };
  } catch (error) {
    throw translate(error);
  }
}

/** By PostgreSQL, in its time: the connection is as good as before. */
function wasGivenUp(error: unknown): boolean {
  return error instanceof Unavailable && error.cause instanceof pg.DatabaseError && error.cause.code === "57014"; // query_canceled
}

/**
 * SQLSTATE classes that say "not now" rather than "not this": connection, authorization, resources, operator
 * intervention and system trouble, a lost race for a lock; and a schema that is not there yet (42P01, 42703, 3D000, 3F000:
 * run the migration). https://www.postgresql.org/docs/17/errcodes-appendix.html
 */
const NOT_NOW = /^(08|28|53|57|58|40|25006|55P03|XX001|XX002|42P01|42703|42883|42501|3D000|3F000)/;

/**
 * True where the values were at fault, so that other values may do: data exceptions, constraint violations, limits of a
 * row or an index, and internal errors, which as a rule are one row's doing. False for a bug in the statement.
 */
export function isDataError(error: unknown): boolean {
  return error instanceof pg.DatabaseError && /^(22|23|54|XX000)/.test(error.code ?? "");
}

/** Whatever its code says, it is no statement's doing: poolers that are full or asleep answer a connection with FATAL XX000. */
const ENDS_CONNECTION = new Set(["FATAL", "PANIC"]);

function notNow(error: pg.DatabaseError): Unavailable {
  return new Unavailable("postgres", { cause: error, full: error.code === "53100" }); // disk_full
}

function translate(error: unknown): unknown {
  if (!(error instanceof Error)) return new Unavailable("postgres", { cause: error });
  if (error instanceof pg.DatabaseError) return NOT_NOW.test(error.code ?? "") || ENDS_CONNECTION.has(error.severity ?? "") ? notNow(error) : error;
  if (error instanceof TypeError) return error; // a bug of ours, not the connection's
  return new Unavailable("postgres", { cause: error }); // sockets, DNS, TLS, "Connection terminated", timeouts
}
