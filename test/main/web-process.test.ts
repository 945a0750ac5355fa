import net from "node:net";
import { request } from "node:http";
import { describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { useProcesses } from "../support/processes.ts";

const { world, start, startWeb } = useProcesses();

describe("the web process", () => {
  test("on SIGTERM finishes the upload in flight, takes no new one, and ends", async () => {
    const web = await startWeb();
    const body = request(`${web.url}/api/upload/slow.bin`, { method: "PUT" });
    const answer = new Promise<{ status?: number; text: string }>((resolve, reject) => {
      body.on("error", reject).on("response", (response) => {
        let text = "";
        response.on("data", (chunk) => (text += chunk)).on("end", () => resolve({ status: response.statusCode, text }));
      });
    });
    body.write("the beginning, ");
    await eventually(() => fetch(`${web.url}/health`).then((response) => response.status), 200);
    web.kill("SIGTERM");
    await eventually(() => fetch(`${web.url}/health`).then(() => "open", () => "closed"), "closed");
    body.end("the end");
    expect(await answer).toMatchObject({ status: 202 });
    expect(JSON.parse((await answer).text).size).toBe(22);
    expect(await web.exit).toBe(0);
  });

  test("takes an upload of 2 GiB with less than 200 MB resident", async () => {
    const web = await startWeb();
    const chunk = Buffer.alloc(1_048_576, "two gibibytes ");
    const chunks = 2_048;
    const socket = net.connect(Number(new URL(web.url).port), "127.0.0.1");
    let answer = "";
    let peakKb = 0;
    socket.on("data", (data) => (answer += data));
    socket.write(`PUT /api/upload/huge.bin HTTP/1.1\r\nHost: x\r\nContent-Length: ${chunk.length * chunks}\r\nConnection: close\r\n\r\n`);
    for (let i = 0; i < chunks; i++) {
      if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
      if (i % 64 === 0) peakKb = Math.max(peakKb, web.memory("VmRSS"));
    }
    await new Promise((resolve) => socket.once("close", resolve));
    expect(answer).toMatch(/^HTTP\/1.1 202 /);
    expect(Math.max(peakKb, web.memory("VmHWM"))).toBeLessThan(200_000);
    expect(JSON.parse(answer.slice(answer.indexOf("{"))).size).toBe(2 * 1024 ** 3);
  }, 120_000);

  test("settles too, where RUN_WORKER_IN_WEB says so", async () => {
    const web = await startWeb({ RUN_WORKER_IN_WEB: "true" });
    const response = await fetch(`${web.url}/api/upload/a.txt`, { method: "PUT", body: "a" });
    expect(response.status).toBe(202);
    await eventually(() => world().ledger(), 1);
    web.kill("SIGTERM");
    expect(await web.exit).toBe(0);
  });

  test("tells of requests that a dependency has it refuse once a minute, not of each", async () => {
    const web = await startWeb();
    await world().sql("alter table event_quarters rename to gone"); // as a database that was not migrated
    for (let i = 0; i < 20; i++) expect((await fetch(`${web.url}/stats?site_id=s`)).status).toBe(503);
    const told = [...web.output().matchAll(/^.*"request refused".*$/gm)].map(([line]) => JSON.parse(line));
    expect(told).toEqual([expect.objectContaining({ level: "warn", code: "UNAVAILABLE", refused: 1, requestId: expect.any(String), err: expect.objectContaining({ name: "Unavailable" }) })]);
  });

  test("says which port is in use and how to choose another", async () => {
    const port = new URL(world().url).port;
    const web = start("web", { PORT: port });
    expect(await web.exit).toBe(1);
    expect(web.output()).toMatch(new RegExp(`Port ${port} .* in use.*PORT=`));
  });

  test("refuses production without a secret, naming every bad setting at once", async () => {
    const web = start("web", { NODE_ENV: "production", CONSUMER_BATCH_SIZE: "many" });
    expect(await web.exit).toBe(1);
    expect(web.output()).toMatch(/CONSUMER_BATCH_SIZE/);
    const unsigned = start("web", { NODE_ENV: "production" });
    expect(await unsigned.exit).toBe(1);
    expect(unsigned.output()).toMatch(/SECRET_KEY.*at least 32/);
  });
});

test("a worker that looks into another inbox than the door writes to refuses to begin, and says why", async () => {
  await startWeb();
  const lost = start("worker", { INBOX_DIR: `${world().folder}/elsewhere` });
  expect(await lost.exit).toBe(1);
  expect(lost.output()).toMatch(/does not see the inbox.*INBOX=s3/s);
  const right = start("worker");
  await right.says(/settling/);
});

test("the migration process brings a database up to date and says so", async () => {
  await world().sql("drop table dead_letters, settle_attempts");
  await world().sql("delete from schema_migrations where name = '005_dead-letters'");
  const migrating = start("migrate");
  expect(await migrating.exit).toBe(0);
  expect(migrating.output()).toMatch(/"migration":"005_dead-letters"/);
  expect(await world().sql("select to_regclass('dead_letters')::text as found")).toEqual([{ found: "dead_letters" }]);
});
