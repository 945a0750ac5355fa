import { randomBytes } from "node:crypto";
import { createServer, type AddressInfo, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { createLog } from "../../src/core/log.ts";
import { openDb, type Database } from "../../src/db/pool.ts";
import { createDatabase } from "../support/places.ts";

let server: Server | undefined;
let db: Database;
afterEach(async () => {
  await db.close();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
});

/** As a pooler far away that takes no more connections: an ErrorResponse in the place of a welcome. */
async function refuseAll(severity: string, code: string): Promise<string> {
  const fields = Buffer.from(`S${severity}\0V${severity}\0C${code}\0Mmax clients reached\0\0`);
  const head = Buffer.alloc(5, "E");
  head.writeUInt32BE(4 + fields.length, 1);
  server = createServer((socket) => socket.on("error", () => {}).once("data", () => socket.end(Buffer.concat([head, fields]))));
  const listening = server;
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return `postgres://127.0.0.1:${(listening.address() as AddressInfo).port}/any`;
}

test.each([["FATAL", "XX000"], ["FATAL", "08P01"], ["ERROR", "XX000"]])("a connection that is refused with %s %s is no statement's fault", async (severity, code) => {
  db = openDb({ uri: await refuseAll(severity, code), poolSize: 1, name: "test", log: createLog("silent", "test") });
  const calls = [() => db.transaction(async () => {}), () => db.exclusively("lock", async () => {}), ...(severity === "FATAL" ? [() => db.query("select 1")] : [])];
  for (const call of calls) {
    const error = await call().then(() => "no error", (error: unknown) => error);
    expect(error).toBeInstanceOf(Unavailable);
    expect(error).toMatchObject({ dependency: "postgres", full: false });
  }
});

test.each([["off", "on"], ["on", "on"], ["remote_apply", "remote_apply"]])("where a COMMIT is set to be durable %s, it is %s for us", async (set, expected) => {
  const database = await createDatabase(`pool_${randomBytes(6).toString("hex")}`);
  const before = openDb({ uri: database.uri, poolSize: 1, name: "test", log: createLog("silent", "test") });
  await before.query(`alter database ${new URL(database.uri).pathname.slice(1)} set synchronous_commit = ${set}`);
  await before.close();
  db = openDb({ uri: database.uri, poolSize: 2, name: "test", log: createLog("silent", "test") });
  const durability = async (target: Pick<Database, "query">) => (await target.query<{ synchronous_commit: string }>("show synchronous_commit")).rows[0]?.synchronous_commit;
  expect(await Promise.all([durability(db), db.transaction(durability)])).toEqual([expected, expected]);
  await database.drop();
});
