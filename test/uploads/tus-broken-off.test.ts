import { request, type ClientRequest } from "node:http";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openContext } from "../../src/main/context.ts";
import { openSite, type Site } from "../../src/main/site.ts";
import { parseConfig } from "../../src/core/config.ts";
import { createLog } from "../../src/core/log.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { BODY, checksum, sha256, tusAt } from "../support/tus.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
let tus: ReturnType<typeof tusAt>;
const open: ClientRequest[] = [];
beforeAll(async () => {
  world = await openWorld({ INBOX: "s3", STORAGE_MODE: "s3", SMALL_OBJECT_BYTES: "1000", UPLOAD_IDLE_SECONDS: "60" });
  tus = tusAt(world.url);
});
afterAll(() => world.close());
afterEach(() => {
  for (const sending of open.splice(0)) sending.destroy();
});

/** A PATCH whose body the test writes by hand. `answer`: its status, or why there is none. */
function begin(location: string, offset: number, url = world.url) {
  const sending = request(url + location, { method: "PATCH", headers: { ...BODY, "Upload-Offset": String(offset), "Content-Length": String(1_000_000 - offset) } });
  open.push(sending);
  const answer = new Promise<number | string>((resolve) => {
    sending.on("response", (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    sending.on("error", (error) => resolve(error.message));
  });
  return { sending, answer };
}

async function create(): Promise<string> {
  return (await tus.create({ "Upload-Length": "1000000" })).location;
}

async function assertBecomesFile(location: string, bytes: Uint8Array): Promise<void> {
  await world.settleAll();
  const status = await (await fetch(`${world.url}/api/files/${tus.idOf(location)}/status`)).json();
  expect(status).toMatchObject({ status: "stored", sha256: sha256(bytes) });
}

test("what came of a request that breaks off is kept, and the next one goes on from there at once", async () => {
  const bytes = tus.bytes(1_000_000);
  const location = await create();
  const { sending } = begin(location, 0);
  sending.write(bytes.subarray(0, 400_000));
  await eventually(() => sending.socket?.writableLength, 0);
  await eventually(async () => {
    sending.destroy();
    return tus.offset(location);
  }, 400_000);
  expect((await tus.patch(location, 400_000, bytes.subarray(400_000))).status).toBe(204);
  await assertBecomesFile(location, bytes);
});

test("a connection that died without a word is given up for the next one within five seconds", async () => {
  const bytes = tus.bytes(1_000_000);
  const location = await create();
  const dead = begin(location, 0);
  dead.sending.write(bytes.subarray(0, 400_000)); // and then nothing: its network is gone
  await eventually(() => dead.sending.socket?.writableLength, 0);
  let offset = 0;
  const statuses: number[] = [];
  while (!statuses.includes(204)) {
    offset = await tus.offset(location);
    if (offset > 0) statuses.push((await tus.patch(location, offset, bytes.subarray(offset))).status);
  }
  expect(statuses).toEqual([204]); // whoever is not let in within 4.5 s is told 423
  expect(offset).toBe(400_000);
  expect(await dead.answer).toBe(423);
  await assertBecomesFile(location, bytes);
});

test("a connection that brings bytes is not disturbed by another one, which is told to wait", async () => {
  const bytes = tus.bytes(1_000_000);
  const location = await create();
  const slow = begin(location, 0);
  let at = 0;
  const dripping = setInterval(() => at < 300_000 && slow.sending.write(bytes.subarray(at, (at += 10_000))), 200);
  await eventually(() => world.site.underWay().uploads, 1);
  const other = await tus.patch(location, 0, bytes);
  expect([other.status, (await other.json()).code]).toEqual([423, "UPLOAD_IN_USE"]);
  expect((await tus.head(location)).status).toBe(200);
  clearInterval(dripping);
  slow.sending.end(bytes.subarray(at));
  expect(await slow.answer).toBe(204);
  await assertBecomesFile(location, bytes);
});

test("a terminated upload ends the request that is sending to it", async () => {
  const location = await create();
  const { sending, answer } = begin(location, 0);
  sending.write(tus.bytes(300_000));
  await eventually(() => world.site.underWay().uploads, 1);
  expect((await tus.remove(location)).status).toBe(204);
  expect(await answer).toBe(423);
  expect((await tus.head(location)).status).toBe(404);
  await eventually(async () => (await inboxKeys(world)).filter((key) => key.includes(tus.idOf(location))), []);
});

test("a request that has not begun to read yet does not hold up the end of its upload", async () => {
  const { partials } = world.context;
  const { find, progress } = partials;
  const location = await create();
  let looked = 0;
  partials.find = (id) => find(id).finally(() => looked++);
  const begins = new Promise<void>((resolve) => {
    partials.progress = async (partial) => {
      resolve();
      await eventually(() => looked, 2); // who ends the upload has found it, and waits for the request
      return progress(partial);
    };
  });
  const { sending, answer } = begin(location, 0);
  const dripping = setInterval(() => sending.write(tus.bytes(100)), 50);
  try {
    await begins;
    expect((await tus.remove(location)).status).toBe(204);
    expect(await answer).toBe(423);
  } finally {
    clearInterval(dripping);
    Object.assign(partials, { find, progress });
  }
});

test("with a checksum nothing of a request that breaks off is kept", async () => {
  const location = await create();
  const sending = request(world.url + location, { method: "PATCH", headers: { ...BODY, "Upload-Offset": "0", "Content-Length": "1000", "Upload-Checksum": `sha1 ${"A".repeat(27)}=` } });
  sending.on("error", () => {});
  sending.write(tus.bytes(500));
  await eventually(() => world.site.underWay().uploads, 1);
  sending.destroy();
  await eventually(() => world.site.underWay().uploads, 0);
  expect(await tus.offset(location)).toBe(0);
});

describe("with two web processes", () => {
  let context: Awaited<ReturnType<typeof openContext>>;
  let second: Site;
  beforeAll(async () => {
    const config = parseConfig(world.env);
    context = await openContext({ config, log: createLog("silent", "test"), clock: { now: () => new Date() } });
    second = await openSite(context);
  });
  afterAll(async () => {
    await second.stop();
    await context.close();
  });

  test("an upload goes on at either of them, and its silent request at one does not hold up the other", async () => {
    const bytes = tus.bytes(1_000_000);
    const location = await create();
    const elsewhere = tusAt(second.url());
    expect((await elsewhere.patch(location, 0, bytes.subarray(0, 100_000))).status).toBe(204);
    const silent = begin(location, 100_000);
    silent.sending.write(bytes.subarray(100_000, 500_000));
    await eventually(() => elsewhere.offset(location), 500_000); // durable after a silence, though nothing was answered
    expect((await elsewhere.patch(location, 500_000, bytes.subarray(500_000, 900_000))).status).toBe(204);
    silent.sending.write(bytes.subarray(500_000, 600_000));
    expect(await silent.answer).toBe(409);
    expect((await tus.patch(location, 900_000, bytes.subarray(900_000))).status).toBe(204);
    await assertBecomesFile(location, bytes);
  });

  test("the hash of what was terminated is not that of what comes under the same key", async () => {
    const elsewhere = tusAt(second.url());
    const key = { "Idempotency-Key": "terminated", "Upload-Defer-Length": "1" };
    const [first, other] = [tus.bytes(5_000), tus.bytes(5_000)];
    const { location } = await tus.create(key);
    await tus.patch(location, 0, first);
    await elsewhere.remove(location);
    expect((await elsewhere.create(key)).location).toBe(location);
    await elsewhere.patch(location, 0, other);
    expect((await tus.patch(location, 5_000, new Uint8Array(), { "Upload-Length": "5000" })).status).toBe(204);
    await assertBecomesFile(location, other);
  });

  test("of requests at one offset of one upload, one is taken; the file is one", async () => {
    const bytes = tus.bytes(1_000_000);
    const location = await create();
    const doors = [tus, tusAt(second.url())];
    const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => doors[i % 2]!.patch(location, 0, bytes)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses[0]).toBe(204);
    for (const status of statuses.slice(1)) expect([204, 409, 423]).toContain(status);
    await assertBecomesFile(location, bytes);
    expect(await world.sql("select 1 from file_events where file_id = $1", [tus.idOf(location)])).toHaveLength(1);
  });

  test("both may be asked to finish the same upload, and it is one file", async () => {
    const bytes = tus.bytes(900_000);
    const parts = await Promise.all([0, 300_000, 600_000].map(async (from) => {
      const { location } = await tus.create({ "Upload-Length": "300000", "Upload-Concat": "partial" });
      await tus.patch(location, 0, bytes.subarray(from, from + 300_000));
      return location;
    }));
    const concat = { "Upload-Concat": `final;${parts.join(" ")}` };
    const [one, other] = await Promise.all([tus.create(concat), tusAt(second.url()).create(concat)]);
    expect([one.status, other.status, one.location]).toEqual([201, 201, other.location]);
    await assertBecomesFile(one.location, bytes);
    expect(await world.sql("select 1 from file_events where file_id = $1", [tus.idOf(one.location)])).toHaveLength(1);
    expect(await inboxKeys(world)).toEqual([]);
  });

  test("one that is stopped does not blame the bytes of a request with a checksum", async () => {
    const third = await openSite(context);
    const answers = await Promise.all([0, 500].map(async (sentBytes) => {
      const location = await create();
      const bytes = tus.bytes(1_000);
      const headers = { ...BODY, "Upload-Offset": "0", "Content-Length": "1000", "Upload-Checksum": checksum("sha1", bytes) };
      const sending = request(third.url() + location, { method: "PATCH", headers });
      open.push(sending);
      sending.flushHeaders();
      if (sentBytes > 0) sending.write(bytes.subarray(0, sentBytes));
      return { answer: new Promise((resolve) => sending.on("response", (response) => resolve(response.resume().statusCode)).on("error", resolve)) };
    }));
    await eventually(() => third.underWay().uploads, 2);
    await third.stop();
    expect(await Promise.all(answers.map(({ answer }) => answer))).toEqual([503, 503]);
  });

  test("one that is stopped keeps what has come, says so, and the other goes on", async () => {
    const bytes = tus.bytes(1_000_000);
    const location = await create();
    const { sending, answer } = begin(location, 0, second.url());
    sending.write(bytes.subarray(0, 400_000));
    await eventually(() => sending.socket?.writableLength, 0);
    await eventually(() => tus.offset(location), 400_000);
    sending.write(bytes.subarray(400_000, 500_000));
    await second.stop();
    expect(await answer).toBe(503);
    const offset = await tus.offset(location);
    expect(offset).toBeGreaterThanOrEqual(400_000);
    expect((await tus.patch(location, offset, bytes.subarray(offset))).status).toBe(204);
    await assertBecomesFile(location, bytes);
  });
});
