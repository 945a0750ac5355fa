import { mkdtempSync, readFileSync, rmdirSync, statfsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { missingOnLinux } from "../support/servers.ts";
import { CANNOT_MOUNT, mountSmall, unmount } from "../support/small-disk.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

const MIB = 1024 ** 2;

let hub: Hub;
let mounted: string[] = [];
afterEach(async () => {
  await hub.close();
  for (const folder of mounted) {
    unmount(folder);
    rmdirSync(folder);
  }
  mounted = [];
});

/** A disk of its own, in memory. */
function mountDisk(sizeBytes: number): string {
  const folder = mkdtempSync(join(tmpdir(), "connectstorm-tmpfs-"));
  mountSmall(folder, sizeBytes);
  mounted.push(folder);
  return folder;
}

/** Takes all that is free. @returns gives it back */
async function fill(folder: string): Promise<() => Promise<void>> {
  const filler = join(folder, "filler");
  const file = await open(filler, "w");
  const { bavail, bsize } = statfsSync(folder);
  await file.write(Buffer.alloc(bavail * bsize));
  await file.close();
  return () => rm(filler);
}

describe.skipIf(CANNOT_MOUNT)(`a full disk${CANNOT_MOUNT ? ` (${CANNOT_MOUNT})` : ""}`, () => {
  test("under the inbox: 507, nothing half written, and the door opens by itself when there is room", async () => {
    const disk = mountDisk(128 * MIB);
    hub = await openHub({ settings: { INBOX_DIR: join(disk, "inbox") } });
    await hub.start();
    const crowd = openCrowd({ urls: hub.urls, everyMs: 50 });
    for (let round = 0; round < 3; round++) {
      await crowd.more(30);
      if (round === 0) takeBaseline(hub);
      const free = await fill(disk);
      const refusedBefore = crowd.answers[507] ?? 0;
      await eventually(() => (crowd.answers[507] ?? 0) > refusedBefore + 10, true);
      await free();
    }
    await crowd.more(30);
    await crowd.stop();
    expect(Object.keys(crowd.answers).sort()).toEqual(["202", "507"]);
    await judge(hub, { crowds: [crowd] });
  });

  test("under the storage: uploads go on and wait, no attempt is spent, and all is stored when there is room", async () => {
    const disk = mountDisk(256 * MIB);
    hub = await openHub({ settings: { STORAGE_DIR: join(disk, "storage") } });
    await hub.start();
    const crowd = openCrowd({ urls: hub.urls, everyMs: 50 });
    await crowd.more(30);
    takeBaseline(hub);
    const free = await fill(disk);
    await crowd.more(60);
    await eventually(() => hub.worker.output().includes("storage is full"), true);
    expect(Object.keys(crowd.answers)).toEqual(["202"]);
    await free();
    await crowd.stop();
    await judge(hub, { crowds: [crowd] });
    expect(await hub.sql("select upload_id from settle_attempts")).toEqual([]);
  });
});

describe.skipIf(missingOnLinux("TEST_STRACE"))("a disk that fails to flush", () => {
  test.each([["small uploads", [900]], ["large uploads", [300_000]]])("gets no 202 for %s, until it flushes again", async (_what, sizes) => {
    hub = await openHub();
    await hub.worker.start();
    await hub.web.start({ UV_THREADPOOL_SIZE: "1" }, { strace: ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=40+"] });
    const crowd = openCrowd({ urls: hub.urls, clients: 3, sizes, keyless: 0.3 });
    await eventually(() => (crowd.answers[503] ?? 0) > 20, true, 60_000);
    const acknowledged = crowd.acknowledged.size;
    await eventually(() => (crowd.answers[503] ?? 0) > 60, true, 60_000);
    expect(crowd.acknowledged.size).toBe(acknowledged);
    await hub.web.restart();
    await crowd.more(10);
    await crowd.stop();
    expect(Object.keys(crowd.answers).filter((status) => !["0", "202", "503"].includes(status))).toEqual([]);
    await judge(hub, { crowds: [crowd] });
  });
});

const STARTS = process.env.FAULTS === "long" ? 10 : 2;

describe.skipIf(missingOnLinux("TEST_STRACE")).each(["web", "worker"] as const)("a %s process that starts", (which) => {
  test("and opens inbox and storage slowly, again and again, takes back nothing of what the others commit meanwhile", async () => {
    hub = await openHub({ webs: 2 });
    await hub.start();
    const indexes = [hub.config.INBOX_DIR, hub.config.STORAGE_DIR].flatMap((folder) => ["-P", join(folder, "index/data.mdb")]);
    const slowly = ["-e", "trace=pread64", "-e", "inject=pread64:delay_exit=60000", ...indexes];
    const slot = which === "web" ? hub.webs[1]! : hub.worker;
    const crowd = openCrowd({ urls: [hub.web.url], clients: 2, sizes: [900, 300_000], everyMs: 10 });
    for (let i = 0; i < STARTS; i++) {
      await crowd.more(10);
      await slot.restart({}, { strace: slowly });
    }
    await slot.restart();
    await crowd.more(10);
    await crowd.stop();
    expect(Object.keys(crowd.answers)).toEqual(["202"]);
    await judge(hub, { crowds: [crowd] });
  });
});

/** The calls by which an upload becomes durable, is answered and is settled; and which of them kills, once the process is up. */
const KINDS = ["pwrite64", "fdatasync", "fsync", "writev"];
const TIMES = process.env.FAULTS === "long" ? [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 25] : [1, 2];
const CALLS = KINDS.flatMap((kind) => TIMES.map((time) => [kind, time] as const));
const ONE_THREAD = { UV_THREADPOOL_SIZE: "1" };

describe.skipIf(missingOnLinux("TEST_STRACE")).each(["web", "worker"] as const)("the %s process killed in the kernel", (which) => {
  test("at every call that makes an upload durable, one after the other: nothing is lost or doubled", async () => {
    hub = await openHub();
    await hub.start();
    const slot = hub[which];
    const atStart = await callsAtStart(slot);
    // A worker that is traced is slow: more than it can settle would only wait.
    const crowd = openCrowd({ urls: hub.urls, clients: 6, sizes: [900, 300_000], keyless: 0.3, everyMs: which === "worker" ? 60 : 20 });
    const uploadsDone = async () => (which === "web" ? crowd.acknowledged.size : (await hub.sql("select id from files")).length);
    const killed = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
    const spared: string[] = [];
    for (const [kind, time] of CALLS) {
      await slot.kill();
      const inject = `inject=${kind}:signal=KILL:when=${atStart[kind]! + time}`;
      const isUp = await slot.start(ONE_THREAD, { strace: ["-e", `trace=${kind}`, "-e", inject] }).then(() => true, () => false);
      const goal = (await uploadsDone()) + 60;
      await eventually(async () => slot.program() === undefined || (await uploadsDone()) >= goal, true, 60_000);
      if (isUp && slot.program() === undefined) killed[kind]!++;
      else spared.push(`${kind} ${time}: ${isUp ? "it lives" : "it was not up yet"}`);
      await slot.kill();
      await slot.start();
      await crowd.more(5);
    }
    await crowd.stop();
    // The worker's flushes are few: of small objects LMDB makes one of a whole batch.
    expect(spared.slice(CALLS.length / 3)).toEqual([]);
    expect(Object.entries(killed).filter(([, times]) => times === 0)).toEqual([]);
    await judge(hub, { crowds: [crowd] });
  });
});

/**
 * How often one thread makes each of these calls until the process is up. The stores flush their folders as they are opened:
 * who counts from there kills no upload. strace counts in each thread by itself, so what the busiest one makes counts for all.
 */
async function callsAtStart(slot: Hub["slots"][number]): Promise<Record<string, number>> {
  const seen = join(hub.folder, "calls");
  await slot.restart(ONE_THREAD, { strace: ["-e", `trace=${KINDS.join(",")}`, "-o", seen] });
  await slot.kill();
  const counts = new Map<string, number>();
  for (const [, call] of readFileSync(seen, "utf8").matchAll(/^(\d+ +\w+)\(/gm)) counts.set(call!, (counts.get(call!) ?? 0) + 1);
  const most = (kind: string) => Math.max(0, ...[...counts].filter(([call]) => call.endsWith(` ${kind}`)).map(([, count]) => count));
  return Object.fromEntries(KINDS.map((kind) => [kind, most(kind)]));
}
