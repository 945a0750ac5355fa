import { execFile } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readdir, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { openDiskStore } from "../../src/objects/disk.ts";
import { eventually } from "../support/eventually.ts";
import { missingOnLinux, servers } from "../support/servers.ts";
import { CANNOT_MOUNT, mountSmall, unmount } from "../support/small-disk.ts";
import { all, inPieces } from "./bytes.ts";
import { compile, holdLock, openOtherProcess, PROGRAM, putAndKill } from "./disk-process.ts";

const SMALL = 16 * 1024;
const MIB = 1024 ** 2;
const DAY_MS = 24 * 3_600_000;

let folder: string;
let opened: { close(): Promise<void> }[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "connectstorm-disk-"));
});
afterEach(async () => {
  await Promise.all(opened.map((store) => store.close()));
  opened = [];
  await rm(folder, { recursive: true, force: true });
});

async function openIn(path: string) {
  const store = await openDiskStore({ folder: path, dependency: "inbox", smallObjectBytes: SMALL });
  opened.push(store);
  return store;
}

async function filesIn(path: string): Promise<string[]> {
  return (await readdir(join(path, "files"), { recursive: true })).filter((name) => name.includes("/"));
}

describe("adopting", () => {
  test("takes over a large object without copying it, and both live on by themselves", async () => {
    const [inbox, storage] = [await openIn(join(folder, "inbox")), await openIn(join(folder, "storage"))];
    const bytes = randomBytes(SMALL + 1);
    await inbox.put("blob", bytes);
    expect(await storage.adopt("object", inbox, "blob")).toEqual({ stored: true });
    await inbox.remove(["blob"]);
    expect(Buffer.from((await storage.readWhole("object"))!).equals(bytes)).toBe(true);
    expect(await storage.head("object")).toMatchObject({ sizeBytes: bytes.length });
    expect(await filesIn(join(folder, "inbox"))).toEqual([]);
  });

  test("leaves what is there already", async () => {
    const [inbox, storage] = [await openIn(join(folder, "inbox")), await openIn(join(folder, "storage"))];
    await inbox.put("blob", randomBytes(SMALL + 1));
    await storage.put("object", Buffer.from("first"));
    expect(await storage.adopt("object", inbox, "blob", { ifAbsent: true })).toEqual({ stored: false });
    expect((await storage.readWhole("object"))?.toString()).toBe("first");
    expect(await filesIn(join(folder, "storage"))).toEqual([]);
  });

  test("says no to small objects, missing ones, other kinds of stores and other file systems", async () => {
    const [inbox, storage] = [await openIn(join(folder, "inbox")), await openIn(join(folder, "storage"))];
    await inbox.put("small", Buffer.from("x"));
    expect(await storage.adopt("object", inbox, "small")).toBeUndefined();
    expect(await storage.adopt("object", inbox, "missing")).toBeUndefined();
    expect(await storage.adopt("object", { ...inbox }, "small")).toBeUndefined();
    expect(await storage.head("object")).toBeUndefined();
  });
});

describe("sweeping", () => {
  test("removes old files that belong to no object, and nothing else", async () => {
    const store = await openIn(folder);
    await store.put("old", randomBytes(SMALL + 1));
    await mkdir(join(folder, "files/ff"), { recursive: true });
    await writeFile(join(folder, "files/ff", `${"f".repeat(64)}-${randomUUID()}`), "left by a killed process");
    expect(await store.sweep(DAY_MS)).toBe(0);
    for (const name of await filesIn(folder)) await utimes(join(folder, "files", name), 0, 0);
    expect(await store.sweep(DAY_MS)).toBe(0); // ctime cannot be set: written or linked today
    expect(await store.sweep(-1)).toBe(1);
    expect(await store.readWhole("old")).toHaveLength(SMALL + 1);
    await store.remove(["old"]);
    expect(await filesIn(folder)).toEqual([]);
  });

  test("leaves alone what no store put there: another store's index, a person's file", async () => {
    const store = await openIn(folder);
    const inner = await openIn(join(folder, "files"));
    await inner.put("object", randomBytes(SMALL + 1));
    await writeFile(join(folder, "files/note"), "x");
    await mkdir(join(folder, "files/ff"), { recursive: true });
    await writeFile(join(folder, "files/ff/note"), "x");
    const before = await filesIn(folder);
    expect(await store.sweep(-1)).toBe(0);
    expect(await filesIn(folder)).toEqual(before);
  });
});

describe("two processes on one store", () => {
  let compiled: Awaited<ReturnType<typeof compile>>;
  beforeAll(async () => {
    compiled = await compile();
  });
  afterAll(() => compiled.remove());

  test("see at once what the other did", async () => {
    const store = await openIn(folder);
    const other = await openOtherProcess(compiled.module, folder, SMALL);
    for (let i = 0; i < 20; i += 1) {
      const bytes = randomBytes(i % 2 ? 100 : SMALL + 1).toString("base64");
      await store.put("k", Buffer.from(bytes));
      expect(await other.call("readWhole", "k")).toBe(bytes);
      await other.call("remove", ["k"]);
      expect(await store.head("k")).toBeUndefined();
    }
    await other.close();
  });

  test("lose nothing that was acknowledged when the writer is killed, again and again, while the other reads and removes", async () => {
    const store = await openIn(folder);
    for (let round = 1; round <= 4; round += 1) {
      const writing = putAndKill(compiled.module, folder, SMALL, 400 * round);
      let written = false;
      void writing.then(() => (written = true));
      const removed = new Set<string>();
      while (!written) {
        const [first] = await store.list("flood/", { limit: 1 });
        if (!first) continue;
        await expectWhole(store, first.key);
        await store.remove([first.key]);
        removed.add(first.key);
      }
      const acknowledged = await writing;
      expect(acknowledged.length).toBeGreaterThanOrEqual(400 * round);
      const present = (await store.list("flood/", { limit: 100_000 })).map(({ key }) => key);
      expect(acknowledged.filter((key) => !removed.has(key) && !present.includes(key))).toEqual([]);
      for (const key of present) await expectWhole(store, key);
      await store.remove(present);
    }
    await store.sweep(-1);
    expect(await filesIn(folder)).toEqual([]);
  });

  test("fail in time when the other holds the lock for too long, and go on when it lets go", async () => {
    const store = await openDiskStore({ folder, dependency: "inbox", smallObjectBytes: SMALL, answerWithinMs: 400 });
    opened.push(store);
    await store.put("before", Buffer.from("x"));
    const { released } = await holdLock(compiled.module, folder);
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({ name: "Unavailable", message: expect.stringContaining("400 ms") });
    const startedAt = Date.now();
    await expect(store.put("l", Buffer.from("x"))).rejects.toMatchObject({ name: "Unavailable" });
    await expect(store.ping()).rejects.toBeInstanceOf(Unavailable);
    expect(Date.now() - startedAt).toBeLessThan(400); // neither waits a second time
    await released;
    await eventually(() => store.put("m", Buffer.from("x")).then(() => "stored", () => "not yet"), "stored");
  });

  test.skipIf(missingOnLinux("TEST_STRACE"))("never call a put done whose flush failed", async () => {
    // Every thread's fifth flush fails (the first few are of opening), and each fourth after it.
    const injected = ["fdatasync", "fsync"].flatMap((call) => ["-e", `inject=${call}:error=EIO:when=5+4`]);
    const { stdout } = await promisify(execFile)(servers.strace(), ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", ...injected,
      process.execPath, PROGRAM, compiled.module, folder, String(SMALL), "report"]);
    const ends = stdout.trim().split("\n").map((line) => JSON.parse(line) as { key: string; error?: { name: string; message: string; full: boolean } });
    const failed = ends.filter(({ error }) => error);
    expect(failed.length).toBeGreaterThan(2);
    expect(failed.length).toBeLessThan(ends.length);
    for (const { error } of failed) expect(error).toMatchObject({ name: "Unavailable", full: false });
    const store = await openIn(folder);
    const present = (await store.list("report/", { limit: 100 })).map(({ key }) => key);
    expect(present.toSorted()).toEqual(ends.filter(({ error }) => !error).map(({ key }) => key).toSorted());
    for (const key of present) await expectWhole(store, key);
    expect(await filesIn(folder)).toHaveLength(present.filter((key) => key.includes("/200000/")).length);
  });
});

describe.skipIf(CANNOT_MOUNT)(`a full disk${CANNOT_MOUNT ? ` (${CANNOT_MOUNT})` : ""}`, () => {
  let path: string;
  beforeEach(async () => {
    path = join(folder, "tmpfs");
    await mkdir(path);
    mountSmall(path);
  });
  afterEach(async () => {
    await Promise.all(opened.map((store) => store.close()));
    unmount(path);
  });

  test.each([["small objects", 10_000], ["large objects", 300_000], ["one that is larger than the disk", 20 * MIB]])(
    "refuses %s, keeps what was stored, and goes on when there is room again",
    async (_what, sizeBytes) => {
      const store = await openIn(path);
      const stored: string[] = [];
      const put = (key: string) => store.put(key, inPieces(randomBytes(sizeBytes), 64 * 1024));
      await store.put("first", Buffer.from("kept"));
      const full = await (async () => {
        for (;;) {
          const key = `k${stored.length}`;
          await put(key);
          stored.push(key);
        }
      })().catch((error: unknown) => error);
      expect(full).toBeInstanceOf(Unavailable);
      expect(full).toMatchObject({ dependency: "inbox", full: true });
      await expect(put("again")).rejects.toMatchObject({ full: true });
      expect((await store.list("k", { limit: 10_000 })).map(({ key }) => key).toSorted()).toEqual(stored.toSorted());
      if (sizeBytes > SMALL) expect(await filesIn(path)).toHaveLength(stored.length);
      expect((await store.readWhole("first"))?.toString()).toBe("kept");
      await store.remove(stored);
      await store.put("after", randomBytes(10_000));
      await store.ping();
    },
  );
});

describe("a folder that cannot be used", () => {
  test("is told when the store is opened", async () => {
    await writeFile(join(folder, "file"), "");
    await expect(openDiskStore({ folder: join(folder, "file"), dependency: "storage", smallObjectBytes: SMALL })).rejects.toThrow(Unavailable);
  });

  test("is told by the ping and by large puts when it is gone later", async () => {
    const store = await openIn(folder);
    await store.put("k", Buffer.from("v"));
    await rm(folder, { recursive: true });
    await expect(store.ping()).rejects.toMatchObject({ name: "Unavailable", dependency: "inbox" });
    await expect(store.put("large", randomBytes(SMALL + 1))).rejects.toBeInstanceOf(Unavailable);
  });
});

describe("damage of one object is told from an outage of the store", () => {
  test("a file shorter than its record says is damaged, and no end", async () => {
    const store = await openIn(folder);
    await store.put("damaged", randomBytes(MIB));
    const [file] = await filesIn(folder);
    await truncate(join(folder, "files", file!), MIB - 1);
    const found = await store.read("damaged");
    await expect(all(found!.stream)).rejects.toMatchObject({ name: "Damaged", problem: "size" });
    await expect(store.readWhole("damaged")).rejects.toMatchObject({ name: "Damaged", problem: "size" });
    expect((await all((await store.read("damaged", { start: 0, end: 99 }))!.stream))).toHaveLength(100);
  });

  test("a record whose file is gone is damaged; where the folder is gone, the store is unavailable", async () => {
    const store = await openIn(folder);
    await store.put("damaged", randomBytes(MIB));
    const [file] = await filesIn(folder);
    await rm(join(folder, "files", file!));
    for (const reading of [() => store.read("damaged"), () => store.readWhole("damaged"), () => store.read("damaged", { start: 5 })]) {
      await expect(reading()).rejects.toMatchObject({ name: "Damaged", problem: "missing" });
    }
    await store.put("damaged", Buffer.from("good again"));
    expect((await store.readWhole("damaged"))?.toString()).toBe("good again");
    await store.put("large", randomBytes(MIB));
    await rm(join(folder, "files"), { recursive: true });
    await expect(store.read("large")).rejects.toBeInstanceOf(Unavailable);
  });

  test.skipIf(missingOnLinux("TEST_STRACE"))("a file that the disk does not give is damaged", async () => {
    const store = await openIn(folder);
    await store.put("large", randomBytes(MIB));
    const script = `const { openDiskStore } = await import(process.argv[1]);
      const store = await openDiskStore({ folder: process.argv[2], dependency: "inbox", smallObjectBytes: ${SMALL} });
      console.log(await store.readWhole("large").then(() => "read", (error) => error.name + " " + error.problem));
      await store.close();`;
    const compiled = await compile();
    try {
      const { stdout } = await promisify(execFile)(servers.strace(), ["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64", "-e", "inject=pread64:error=EIO",
        "-P", join(folder, "files", (await filesIn(folder))[0]!), process.execPath, "--input-type=module", "-e", script, compiled.module, folder]);
      expect(stdout.trim()).toBe("Damaged unreadable");
    } finally {
      await compiled.remove();
    }
  });
});

test("no descriptor stays open", async () => {
  const store = await openIn(folder);
  await store.put("large", randomBytes(4 * MIB));
  const open = async () => (await readdir("/proc/self/fd")).length;
  const before = await open();
  for (let i = 0; i < 50; i += 1) {
    for await (const _ of (await store.read("large"))!.stream) break;
    await all((await store.read("large", { start: 5, end: 9 }))!.stream);
    await store.put("large", inPieces(randomBytes(SMALL + i), 1_000));
  }
  expect(await open()).toBeLessThanOrEqual(before + 1);
});

async function expectWhole(store: Awaited<ReturnType<typeof openIn>>, key: string): Promise<void> {
  const bytes = await store.readWhole(key);
  const seed = createHash("sha256").update(key).digest();
  expect(bytes && Buffer.from(bytes).equals(Buffer.alloc(Number(key.split("/")[1]), seed))).toBe(true);
}
