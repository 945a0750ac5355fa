import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { announceInbox } from "../../src/main/shared-inbox.ts";
import { openSite } from "../../src/main/site.ts";
import { ask, connectRaw, expectRefusal, holdConnections, inboxOf, type Answer } from "../http/raw.ts";
import { knowsItsDisk } from "../../src/objects/object-store.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { CANNOT_MOUNT, mountSmall, unmount } from "../support/small-disk.ts";
import { openWorld, type World } from "../support/world.ts";

const MIB = 1024 ** 2;
const [HERE, THERE] = ["127.0.0.1", "127.0.0.2"];
const PART = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n';
const LAST = "\r\n--b--\r\n";

/** The heads of uploads by each door, which wait to be told to go on. */
const doors: [string, (size: number) => string, string, string][] = [
  ["the API's form", (size) => formHead("/api/upload", size), PART, LAST],
  ["the page's form", (size) => formHead("/upload", size), PART, LAST],
  ["the body", (size) => putHead(size), "", ""],
];
const formHead = (path: string, size: number) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nExpect: 100-continue\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${PART.length + size + LAST.length}\r\n\r\n`;
const putHead = (size: number) => `PUT /api/upload/a.bin HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${size}\r\n\r\n`;
const CHUNKED = "PUT /api/upload/a.bin HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";

let world: World;
const { held, open, closeAll } = holdConnections();
afterEach(async () => {
  closeAll();
  await world.close();
});

/** Begins an upload whose body does not come yet. @returns what the server said to its head */
async function begin(head: string, from = HERE): Promise<Answer> {
  const connection = open(world.url, { from });
  await connection.send(head);
  return connection.answer();
}

function expectBusy(answer: Answer, code: "TOO_BUSY" | "BACKLOG_FULL" | "OUT_OF_SPACE" = "TOO_BUSY"): void {
  expectRefusal(answer, code);
  expect(answer.headers["connection"]).toBe("close"); // its body will not be read
  if (code !== "OUT_OF_SPACE") expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
}

describe("places", () => {
  test.each(doors)("are MAX_CONCURRENT_UPLOADS; another upload by %s is refused before its body, and let in when one is free", async (_door, head, before, behind) => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "4" });
    for (const from of [HERE, HERE, THERE, "127.0.0.4"]) expect((await begin(head(5), from)).status).toBe(100);
    expectBusy(await begin(head(5), "127.0.0.3"));
    expect(world.site.underWay().uploads).toBe(4);
    await held[0]!.send(`${before}hello${behind}`);
    expect([202, 303]).toContain((await held[0]!.answer()).status);
    await eventually(() => world.site.underWay().uploads, 3);
    expect((await begin(head(5), "127.0.0.3")).status).toBe(100);
  });

  test("are not all for one address: another one finds the half of them free", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "200" });
    for (let i = 0; i < 100; i++) expect((await begin(i % 2 ? putHead(9) : formHead("/api/upload", 9))).status).toBe(100);
    expectBusy(await begin(putHead(9)));
    expect((await ask(world.url, "PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "PUT", { from: THERE })).status).toBe(202);
  });

  test("are for one address at most as many as are free, so that two cannot shut the door for a third one", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "64" });
    const taken = [0, 0, 0];
    for (const [i, from] of [HERE, THERE, "127.0.0.3"].entries()) {
      while ((await begin(putHead(9), from)).status === 100) taken[i]!++;
    }
    expect(taken).toEqual([32, 16, 8]);
    expectBusy(await begin(putHead(9)));
    expect((await begin(putHead(9), "127.0.0.4")).status).toBe(100);
  });

  test("are one at least for each address", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "1" });
    expect((await begin(putHead(9))).status).toBe(100);
    expectBusy(await begin(putHead(9), THERE));
  });

  test("cannot be had more of by a forged X-Forwarded-For", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "4" });
    const forged = (i: number) => putHead(9).replace("\r\n\r\n", `\r\nX-Forwarded-For: 10.0.0.${i}\r\n\r\n`);
    for (let i = 0; i < 2; i++) expect((await begin(forged(i))).status).toBe(100);
    expectBusy(await begin(forged(3)));
  });

  test("come back after 300 uploads that broke off in the middle, with descriptors and files", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "64", SMALL_OBJECT_BYTES: "1024" });
    await world.put("first.bin", Buffer.alloc(100_000, "x")); // whatever is opened once is open now
    await world.settleAll();
    const descriptors = async () => (await readdir("/proc/self/fd")).length;
    const before = await descriptors();
    const unasked = (head: string) => head.replace("Expect: 100-continue\r\n", "");
    const large = new Set([putHead(500_000), `${formHead("/api/upload", 500_000)}${PART}`].map(unasked));
    const heads = [...large, ...[putHead(900), CHUNKED, formHead("/api/upload", 900) + PART, formHead("/upload", 900) + PART.slice(0, 20)].map(unasked)];
    for (let round = 0; round < 10; round++) {
      const aborted = Array.from({ length: 30 }, async (_, i) => {
        const connection = connectRaw(world.url);
        const head = heads[i % heads.length]!;
        await connection.send(head);
        await connection.send(head.includes("chunked") ? `1388\r\n${"x".repeat(5_000)}\r\n` : "x".repeat(large.has(head) ? 50_000 : 500));
        if (i % 3 === 0) connection.socket.resetAndDestroy();
        else connection.close();
        await connection.closed;
      });
      await Promise.all(aborted);
    }
    await eventually(() => world.site.underWay(), { uploads: 0, memoryBytes: 0 });
    await eventually(() => inboxOf(world), []);
    await eventually(async () => (await descriptors()) <= before + 2, true);
    expect((await world.put("after.txt", "hello")).status).toBe(202);
  });

  test("come back after uploads that were refused in the middle", async () => {
    world = await openWorld({ MAX_CONCURRENT_UPLOADS: "2", ALLOWED_TYPES: "text/plain", MAX_UPLOAD_BYTES: "100000", SMALL_OBJECT_BYTES: "1024" });
    const image = Buffer.concat([Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"), randomBytes(5_000)]);
    const form = (field: string, bytes: Buffer) => world.upload(bytes, { name: field });
    for (let i = 0; i < 5; i++) {
      expect((await form("a.png", image)).status).toBe(415);
      expect((await world.put("a.png", image)).status).toBe(415);
      expect((await form("..", Buffer.from("x"))).status).toBe(400);
      expect((await world.put("a.txt", "")).status).toBe(400);
      expect((await form("a.txt", Buffer.alloc(150_000, "x"))).status).toBe(413);
      expect((await world.upload("hello", { uploaderId: "x".repeat(200) })).status).toBe(400);
      await eventually(() => world.site.underWay(), { uploads: 0, memoryBytes: 0 });
    }
    await eventually(() => inboxOf(world), []);
  });
});

describe("memory", () => {
  test.each(["disk", "s3"])("of uploads under way is bounded, with the inbox on %s", async (inbox) => {
    world = await openWorld({ INBOX: inbox, UPLOAD_MEMORY_BYTES: String(100 * MIB) });
    const each = world.context.inbox.store.putMemoryBytes(Number.POSITIVE_INFINITY);
    expect(each).toBeGreaterThan(inbox === "s3" ? 3 * 8 * MIB - 1 : MIB);
    const statuses: number[] = [];
    for (let i = 0; i < 120; i++) statuses.push((await begin(CHUNKED, `127.0.1.${i % 12}`)).status);
    const admitted = statuses.filter((status) => status === 100).length;
    expect(statuses.filter((status) => status === 503)).toHaveLength(120 - admitted);
    expect(admitted * each).toBeLessThan(100 * MIB);
    expect((admitted + 1) * (each + MIB)).toBeGreaterThan(100 * MIB);
    expect(world.site.underWay().memoryBytes).toBeLessThanOrEqual(100 * MIB);
  });

  test("is not all for two addresses: a third one finds some of it free", async () => {
    world = await openWorld({ UPLOAD_MEMORY_BYTES: String(100 * MIB) });
    const taken = [0, 0, 0];
    for (const [i, from] of [HERE, THERE, "127.0.0.3"].entries()) {
      while ((await begin(CHUNKED, from)).status === 100) taken[i]!++;
      expect(world.site.underWay().memoryBytes).toBeLessThanOrEqual([50, 75, 87.5][i]! * MIB);
    }
    expect(taken[0]).toBeGreaterThan(taken[1]!);
    expect(taken[1]).toBeGreaterThan(taken[2]!);
    expect(taken[2]).toBeGreaterThan(0);
  });

  test("is never too little for an upload that is alone", async () => {
    world = await openWorld({ INBOX: "s3", UPLOAD_MEMORY_BYTES: String(MIB) });
    expect((await world.put("large.bin", Buffer.alloc(3 * MIB, "x"))).status).toBe(202);
    expect((await begin(CHUNKED)).status).toBe(100);
    expectBusy(await begin(putHead(5), THERE));
  });
});

describe("backlog", () => {
  test.each(["disk", "s3"])("of MAX_BACKLOG uploads closes the door until they are settled, with the inbox on %s", async (inbox) => {
    world = await openWorld({ INBOX: inbox, MAX_BACKLOG: "3", SMALL_OBJECT_BYTES: "1024" });
    for (const size of [10, 5_000, 300_000]) expect((await world.put("a.bin", randomBytes(size))).status).toBe(202);
    const refused = await begin(putHead(5));
    expectBusy(refused, "BACKLOG_FULL");
    expect(refused.headers["retry-after"]).toBe("30");
    await world.settleAll();
    await eventually(async () => (await world.put("b.txt", "b")).status, 202, 30_000);
  });

  test("of MAX_BACKLOG_BYTES closes it, too", async () => {
    world = await openWorld({ MAX_BACKLOG_BYTES: String(MIB) });
    for (let i = 0; i < 2; i++) expect((await world.put("a.bin", randomBytes(400_000))).status).toBe(202);
    expectBusy(await begin(putHead(400_000)), "BACKLOG_FULL");
    await world.settleAll();
    await eventually(async () => (await world.put("b.txt", "b")).status, 202);
  });

  test.each(doors)("of MAX_BACKLOG_BYTES counts what uploads by %s have announced, before it has come", async (_door, head, before, behind) => {
    world = await openWorld({ MAX_BACKLOG_BYTES: "1000000" });
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => begin(head(300_000), `127.0.0.${i + 1}`)));
    const refused = answers.filter(({ status }) => status !== 100);
    expect(refused).toHaveLength(7);
    for (const answer of refused) expectBusy(answer, "BACKLOG_FULL");
    const admitted = held.filter((_, i) => answers[i]!.status === 100);
    admitted[0]!.close(); // what does not come is not waited for
    await eventually(() => world.site.underWay().uploads, 2);
    await admitted[1]!.send(`${before}${"x".repeat(300_000)}${behind}`);
    expect([202, 303]).toContain((await admitted[1]!.answer()).status);
    await eventually(() => world.site.underWay().uploads, 1);
    expect((await begin(head(300_000))).status).toBe(100);
    expectBusy(await begin(head(300_000)), "BACKLOG_FULL");
  });

  test("of MAX_BACKLOG_BYTES counts an upload of unknown length as SMALL_OBJECT_BYTES", async () => {
    world = await openWorld({ MAX_BACKLOG_BYTES: "1000000", SMALL_OBJECT_BYTES: "300000" });
    const answers = await Promise.all(Array.from({ length: 5 }, () => begin(CHUNKED)));
    expect(answers.map(({ status }) => status).sort()).toEqual([100, 100, 100, 503, 503]);
  });

  test("of MAX_BACKLOG_BYTES lets in an upload larger than that while nothing waits and it is the only one", async () => {
    world = await openWorld({ MAX_BACKLOG_BYTES: "1000000" });
    expect((await begin(putHead(5_000_000))).status).toBe(100);
    expectBusy(await begin(putHead(5)), "BACKLOG_FULL");
  });

  test("of MAX_BACKLOG=1 opens again once that one is settled: what else lies in the inbox is no upload", async () => {
    world = await openWorld({ MAX_BACKLOG: "1" });
    await announceInbox(world.context);
    const tallies = async () => (await world.context.inbox.store.list("tallies/", { limit: 10 })).length;
    for (let i = 0; i < 2; i++) {
      await eventually(async () => (await world.put("a.txt", `a ${i}`)).status, 202, 30_000);
      expectBusy(await begin(putHead(5)), "BACKLOG_FULL");
      await world.settleAll();
      await eventually(tallies, 1);
    }
    for (let i = 0; i < 5; i++) await world.context.inbox.store.put(`tallies/other-${i}`, Buffer.from("[]"));
    await eventually(async () => (await world.put("a.txt", "a 3")).status, 202, 30_000);
    expect(await world.context.inbox.weigh(async () => {}, new AbortController().signal)).toMatchObject({ uploads: 1 });
  });

  test("is what lies in the inbox, whoever put it there and whatever Redis says", async () => {
    world = await openWorld({ MAX_BACKLOG: "3" });
    for (let i = 0; i < 3; i++) await world.put("a.txt", `a ${i}`);
    await world.redis.del(world.stream);
    const other = await openSite(world.context);
    try {
      const answer = await fetch(`${other.url()}/api/upload/b.txt`, { method: "PUT", body: "b" });
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([503, "BACKLOG_FULL"]);
    } finally {
      await other.stop();
    }
  });

  test.each(["disk", "s3"])("is counted right, small and large, with the inbox on %s", async (inbox) => {
    world = await openWorld({ INBOX: inbox, SMALL_OBJECT_BYTES: "1024" });
    const weigh = () => world.context.inbox.weigh(async () => {}, new AbortController().signal);
    expect((await weigh()).uploads).toBe(0);
    const sizes = [1, 500, 1_024, 1_025, 5_000, 17_000, 17_409, 50_000, 400_000]; // the disk's own limit for small ones is 17,408
    for (const size of sizes) await world.put("a.bin", randomBytes(size));
    const { uploads, bytes } = await weigh();
    expect(uploads).toBe(sizes.length);
    const sum = sizes.reduce((total, size) => total + size);
    expect(bytes).toBeGreaterThan(sum);
    expect(bytes).toBeLessThan(2 * sum);
    await world.settleAll();
    expect((await weigh()).uploads).toBe(0);
  });
});

describe.skipIf(CANNOT_MOUNT)(`a disk that is nearly full${CANNOT_MOUNT ? ` (${CANNOT_MOUNT})` : ""}`, () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "connectstorm-full-"));
    await mkdir(join(folder, "small"));
    mountSmall(join(folder, "small"));
  });
  afterEach(async () => {
    unmount(join(folder, "small"));
    await rm(folder, { recursive: true });
  });

  test.each<[string, Record<string, string>, number]>([
    ["MIN_FREE_BYTES", { MIN_FREE_BYTES: String(4 * MIB) }, 4],
    ["a tenth of it, where nothing is set,", {}, 0.8],
  ])("closes the door before %s is touched; nothing is left of it; and it opens again", async (_what, settings, leastMib) => {
    world = await openWorld({ ...settings, INBOX_DIR: join(folder, "small/inbox"), SMALL_OBJECT_BYTES: "1024" });
    expectBusy(await begin(putHead(Math.ceil((8 - leastMib) * MIB))), "OUT_OF_SPACE");
    expect((await world.put("fits.bin", Buffer.alloc(MIB, "fits"))).status).toBe(202);
    await world.settleAll();
    await writeFile(join(folder, "small/others.bin"), Buffer.alloc(Math.floor((8 - leastMib) * MIB) - 300_000));
    for (const head of [putHead(400_000), formHead("/api/upload", 400_000), formHead("/upload", 400_000)]) {
      await eventually(async () => (await begin(head)).status, 507); // what is free is known 20 ms later
    }
    expect(await inboxOf(world)).toEqual([]);
    expect(world.site.underWay().uploads).toBe(0);
    await rm(join(folder, "small/others.bin"));
    await eventually(async () => (await world.put("again.bin", Buffer.alloc(400_000, "again"))).status, 202);
    await world.settleAll();
    await world.close();
    world = await openWorld(); // the disk goes before the tests' own end closes their world
  });
});

describe("readiness", () => {
  const inboxReady = async () => (await (await fetch(`${world.url}/ready`)).json()).dependencies.inbox;

  test("says when the inbox's disk has so little room that every upload is refused, and nothing while there is enough", async () => {
    world = await openWorld({ MIN_FREE_BYTES: String(2 ** 50) });
    expect((await world.put("a.txt", "a")).status).toBe(507);
    expect(await inboxReady()).toMatchObject({ ok: true, warning: expect.stringMatching(/every upload is refused \(507\).*MIN_FREE_BYTES/) });
    await world.close();
    world = await openWorld();
    expect((await world.put("a.txt", "a")).status).toBe(202);
    expect(await inboxReady()).not.toHaveProperty("warning");
  });

  test("says when there is only room for small uploads, inside the index", async () => {
    world = await openWorld({ MIN_FREE_BYTES: String(2 ** 50), SMALL_OBJECT_BYTES: "1024" });
    const { store } = world.context.inbox;
    if (!knowsItsDisk(store)) throw new Error("an inbox on disk knows it");
    const { room } = store;
    store.room = () => ({ ...room(), spareBytes: () => 2 ** 51 });
    expect((await world.put("small.txt", "a")).status).toBe(202);
    expect((await world.put("large.bin", Buffer.alloc(100_000))).status).toBe(507);
    expect(await inboxReady()).toMatchObject({ ok: true, warning: expect.stringMatching(/larger uploads are refused \(507\)/) });
  });
});
