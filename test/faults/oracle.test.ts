import { CreateMultipartUploadCommand } from "@aws-sdk/client-s3";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { Agent, get } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { createBucket } from "../support/places.ts";
import { openCrowd, type Crowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, NotKept, takeBaseline, type Expectation } from "./oracle.ts";

// What judges all the others: one fault for each thing it can say, which it has to say, and nothing else.
let hub: Hub;
let crowd: Crowd;
let ids: string[];
beforeAll(async () => {
  hub = await openHub();
  await hub.start();
  crowd = openCrowd({ urls: hub.urls, clients: 3, sizes: [900, 300_000], repeated: 0 });
  await crowd.more(20);
  takeBaseline(hub);
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  ids = [...crowd.acknowledged.keys()];
});
afterAll(() => hub.close());

async function findWrong(expectation: Partial<Expectation> = {}, of: Hub = hub): Promise<NotKept> {
  return judge(of, { crowds: [crowd], withinMs: 300, releasedWithinMs: 300, ...expectation }).then(() => expect.fail("the oracle saw nothing"), (error: NotKept) => error);
}

/** What is planted is told, and nothing besides; once it is taken back, all is in order again. */
async function expectTold(told: readonly unknown[], { plant, undo }: { plant: () => Promise<unknown>; undo: () => Promise<unknown> }): Promise<void> {
  await plant();
  const { wrong, verdict } = await findWrong();
  expect(wrong).toEqual(told);
  expect(verdict).toMatchObject({ acknowledged: crowd.acknowledged.size, lost: 0, doubled: 0 });
  await undo();
  await judge(hub, { crowds: [crowd] });
}

describe("a process that has more than it had", () => {
  test("open is told of, until it lets go", async () => {
    const agent = new Agent({ keepAlive: true });
    await expectTold([expect.stringMatching(/^a process has \d+ descriptors open; it had 0, and 90 more are allowed$/), expect.stringMatching(/^a process has \d+ descriptors open; it had [1-9]\d+, and 20 more are allowed$/)], {
      plant: () => Promise.all(Array.from({ length: 90 }, () => new Promise((resolve) => get(`${hub.web.url}/health`, { agent }, (response) => response.resume().on("end", resolve))))),
      undo: async () => agent.destroy(),
    });
  });

  test("in memory is told of", async () => {
    const keep = 'process.on("SIGUSR2", () => { globalThis.kept = Buffer.alloc(300 * 1024 ** 2, 1); console.log("kept"); })';
    const web = await hub.web.restart({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(keep)}` });
    await judge(hub, { crowds: [crowd] }); // which takes what it has now as what it may have
    await expectTold([expect.stringMatching(/^a process holds \d+ MiB of memory; it had 0, and 256 more are allowed$/), expect.stringMatching(/^a process holds \d+ MiB of memory; it had [1-9]\d+, and 128 more are allowed$/)], {
      plant() {
        web.kill("SIGUSR2");
        return web.says(/^kept$/m);
      },
      undo: () => hub.web.restart(),
    });
  });
});

describe("in a system that is at rest", () => {
  /** The audit is read now and then: what it said before is said for a while. */
  const auditSaysBalanced = (balanced: boolean) => eventually(async () => ((await (await fetch(`${hub.web.url}/api/audit`)).json()) as { balanced: boolean }).balanced, balanced);
  const orphan = (place: string) => join(place, "files/ff/left-by-a-killed-process");
  const orphanIn = (place: () => string) => ({
    async plant() {
      await mkdir(join(place(), "files/ff"), { recursive: true });
      await writeFile(orphan(place()), "x");
    },
    undo: () => rm(orphan(place())),
  });
  const changed = (plant: string, undo: string) => ({ plant: () => hub.sql(plant), undo: () => hub.sql(undo) });
  const UPLOAD = "11111111-2222-4333-8444-555555555555";

  // Without a worker, which would settle, sweep and count what is planted.
  beforeAll(() => hub.worker.kill());
  afterAll(() => hub.worker.start());

  test.each<[string, readonly unknown[], { plant: () => Promise<unknown>; undo: () => Promise<unknown> }]>([
    ["an entry in the stream", ["1 entries in the stream"], {
      plant: () => hub.redis.xadd(hub.stream, "*", "of", "nobody"),
      undo: () => hub.redis.xtrim(hub.stream, "MAXLEN", 0),
    }],
    ["a pending entry", ["1 pending entries"], {
      async plant() {
        await hub.redis.xadd(hub.stream, "*", "of", "nobody");
        await hub.redis.xreadgroup("GROUP", "settlers", "a-dead-worker", "STREAMS", hub.stream, ">");
        await hub.redis.xtrim(hub.stream, "MAXLEN", 0);
      },
      undo: () => hub.redis.xgroup("DELCONSUMER", hub.stream, "settlers", "a-dead-worker"),
    }],
    ["a manifest in the inbox", ["1 manifests in the inbox"], {
      plant: async () => (await hub.inboxStore()).put(`manifests/${UPLOAD}`, Buffer.from("no manifest at all")),
      undo: async () => (await hub.inboxStore()).remove([`manifests/${UPLOAD}`]),
    }],
    ["a blob of nobody in the inbox", ["1 blobs in the inbox"], {
      plant: async () => (await hub.inboxStore()).put("blobs/of-nobody", Buffer.from("x")),
      undo: async () => (await hub.inboxStore()).remove(["blobs/of-nobody"]),
    }],
    ["a file of nobody in the inbox", ["1 files in the inbox, of which its index knows 0"], orphanIn(() => hub.config.INBOX_DIR)],
    ["a file of nobody in the storage", [expect.stringMatching(/^\d+ files in the storage, of which its index knows \d+$/)], orphanIn(() => hub.config.STORAGE_DIR)],
    ["an unmeant dead letter", [`1 dead letters, such as ${UPLOAD} (SOMETHING)`], changed(
      `insert into dead_letters (upload_id, attempts, code, reason, first_failed_at) values ('${UPLOAD}', 3, 'SOMETHING', 'planted', now())`, "delete from dead_letters")],
    ["spent attempts", ["1 uploads spent attempts and were stored nevertheless without their being forgotten"], changed(
      `insert into settle_attempts (upload_id, attempts, code, reason) values ('${UPLOAD}', 1, 'SOMETHING', 'planted')`, "delete from settle_attempts")],
    ["a total that differs", [expect.stringMatching(/^(\d+) files, \1 ledger rows, a total of (?!\1)\d+$/)], changed(
      "update ledger_totals set records = records + 1", "update ledger_totals set records = records - 1")],
    ["a file that differs from its ledger row", ["1 files differ from their ledger rows"], {
      plant: () => hub.sql("update files set event_time = event_time + interval '1 second' where id = $1", [ids[0]]),
      undo: () => hub.sql("update files set event_time = event_time - interval '1 second' where id = $1", [ids[0]]),
    }],
    ["a file too few", [expect.stringMatching(/^(\d+) of (?!\1)\d+ uploads are files$/), expect.stringMatching(/^(\d+) files, (?!\1)(\d+) ledger rows, a total of \2$/), expect.stringMatching(/comes back with other bytes \(status 404\)$/)], {
      async plant() {
        await hub.sql("create table taken as select * from files where id = $1", [ids[0]]);
        await hub.sql("delete from files where id = $1", [ids[0]]);
      },
      undo: () => hub.sql("insert into files select * from taken"),
    }],
    ["an unbalanced audit", [expect.stringMatching(/^the audit says .*"difference":\{"files":0,"bytes":1\}.*"balanced":false/)], {
      async plant() {
        await hub.sql("update acceptances set stored_bytes = stored_bytes - 1");
        await auditSaysBalanced(false);
      },
      async undo() {
        await hub.sql("update acceptances set stored_bytes = stored_bytes + 1");
        await auditSaysBalanced(true);
      },
    }],
  ])("%s is told of", async (_what, told, fault) => {
    await expectTold(told, fault);
  });

  test("a multipart upload that nobody finishes is told of", async () => {
    const bucket = await createBucket(`${hub.id}-unfinished`);
    await bucket.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.name, Key: "storage/x" }));
    expect((await findWrong({}, { ...hub, bucket })).wrong).toEqual(["1 unfinished multipart uploads in the bucket"]);
    await bucket.drop();
  });

  test("a dead letter that was meant and is none is told of", async () => {
    expect((await findWrong({ deadLetters: [ids[0]!] })).wrong).toContain("0 of 1 dead letters");
  });

  test("a system that cannot be asked is told of", async () => {
    await hub.web.kill();
    expect((await findWrong({ mostFetched: 1 })).wrong).toEqual(["cannot be judged: fetch failed", expect.stringMatching(/does not come back: TypeError: fetch failed$/)]);
    await hub.web.start();
    await judge(hub, { crowds: [crowd] });
  });
});

describe("of what the clients saw,", () => {
  test("a refusal that no sane client deserves is told of", async () => {
    const empty = openCrowd({ urls: hub.urls, clients: 1, sizes: [0] });
    await eventually(() => empty.refusals().length > 0, true);
    await empty.stop();
    expect((await findWrong({ crowds: [empty] })).wrong).toEqual(empty.refusals());
    expect(empty.refusals()[0]).toMatch(/ was answered 400: .*EMPTY_FILE/);
  });

  test("a row of an upload that nobody was promised is a stranger's", async () => {
    const { file_id: id, sha256 } = (await (await fetch(`${hub.web.url}/api/upload/a.txt`, { method: "PUT", body: "of a stranger" })).json()) as { file_id: string; sha256: string };
    await eventually(async () => (await hub.sql("select 1 from files where id = $1", [id])).length, 1);
    const { wrong } = await findWrong({ withinMs: 10_000 });
    expect(wrong).toEqual(["1 ledger rows belong to no upload that was acknowledged; 0 may"]);
    crowd.acknowledged.set(id, { id, sha256, sizeBytes: 13, streamId: null });
    await judge(hub, { crowds: [crowd] });
  });

  test("bytes that are not those that were acknowledged are told of", async () => {
    const upload = crowd.acknowledged.get(ids[2]!)!;
    const { sha256 } = upload;
    await expectTold([`${ids[2]} comes back with other bytes (status 200)`], {
      plant: async () => void (upload.sha256 = "0".repeat(64)),
      undo: async () => void (upload.sha256 = sha256),
    });
  });

  test("a second row of an upload is a double", async () => {
    await hub.sql("create table doubled as select * from file_events where file_id = $1", [ids[1]]);
    await hub.sql("insert into file_events select (jsonb_populate_record(e, jsonb_build_object('event_time', e.event_time + interval '1 second'))).* from file_events e where file_id = $1", [ids[1]]);
    const { wrong, verdict } = await findWrong();
    expect(verdict).toMatchObject({ lost: 0, doubled: 1 });
    expect(wrong).toContain(`DOUBLED: 1 uploads have more than one ledger row, such as ${ids[1]}`);
    await hub.sql("delete from file_events where file_id = $1", [ids[1]]);
    await hub.sql("insert into file_events select * from doubled");
    await judge(hub, { crowds: [crowd] });
  });

  test("a row that is gone is a loss, and the verdict counts it", async () => {
    await hub.sql("delete from file_events where file_id = $1", [ids[0]]);
    const { wrong, verdict, message } = await findWrong();
    expect(verdict).toMatchObject({ acknowledged: crowd.acknowledged.size, lost: 1, doubled: 0 });
    expect(wrong).toContain(`LOST: 1 acknowledged uploads have no ledger row, such as ${ids[0]}`);
    expect(message).toContain(wrong[0]);
  });
});

// What processes said and how they died is not forgotten: these come last, with the loss that was planted before them.
describe("of the processes,", () => {
  let before: readonly string[];
  beforeEach(async () => {
    before = (await findWrong()).wrong;
  });

  test("one that logs a bug is told of", async () => {
    await hub.sql("alter table files rename to files_away; create view files as select * from files_away where 1 / (size_bytes * 0) > 0");
    expect((await fetch(`${hub.web.url}/api/files`)).status).toBe(500);
    await hub.sql("drop view files; alter table files_away rename to files");
    expect((await findWrong()).wrong).toEqual([...before, expect.stringContaining("division by zero")]);
  });

  test("one that died by itself is told of", async () => {
    const { exit } = hub.worker.program()!;
    hub.worker.program()!.kill("SIGKILL"); // past the slot, which knows nothing of it
    await exit;
    const { wrong } = await findWrong();
    expect(wrong).toHaveLength(before.length + 1);
    expect(wrong).toEqual(expect.arrayContaining([...before, expect.stringMatching(/^worker ended by itself with SIGKILL/)]));
  });
});
