import { execFile, fork, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { openDiskStore } from "../../src/objects/disk.ts";
import { createIndexLock, NotAlone, type IndexLock } from "../../src/objects/index-lock.ts";
import { eventually } from "../support/eventually.ts";
import { missingOnLinux, servers } from "../support/servers.ts";
import { compile, PROGRAM } from "./disk-process.ts";

const SMALL = 16 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "connectstorm-index-lock-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe.skipIf(missingOnLinux("TEST_STRACE"))("a process that opens a store while another writes to it", () => {
  let compiled: Awaited<ReturnType<typeof compile>>;
  beforeAll(async () => {
    compiled = await compile();
  });
  afterAll(() => compiled.remove());

  /** LMDB reads the number of the last transaction as it begins to open: from there on it is made slow. */
  async function openSlowly(): Promise<void> {
    await promisify(execFile)(servers.strace(), [
      "-f", "-qq", "-o", "/dev/null", "-P", join(folder, "index", "data.mdb"), "-e", "trace=pread64", "-e", "inject=pread64:delay_exit=60000",
      process.execPath, PROGRAM, compiled.module, folder, String(SMALL), "look",
    ]);
  }

  test("takes back nothing that was acknowledged meanwhile", async () => {
    const writer = fork(PROGRAM, [compiled.module, folder, String(SMALL), "trickle"]); // not this process: it may well crash
    const acknowledged: string[] = [];
    writer.on("message", (key) => acknowledged.push(key as string));
    const ended = once(writer, "close");
    try {
      await once(writer, "message");
      for (let i = 0; i < 6; i++) await openSlowly();
      if (writer.connected) writer.send("end");
      expect(await ended).toEqual([0, null]);
    } finally {
      writer.kill("SIGKILL");
    }
    expect(acknowledged.length).toBeGreaterThan(50);
    const store = await openDiskStore({ folder, dependency: "inbox", smallObjectBytes: SMALL });
    const present = new Set((await store.list("", { limit: 100_000 })).map(({ key }) => key));
    await store.close();
    expect(acknowledged.filter((key) => !present.has(key))).toEqual([]);
  });
});

describe("the lock of an index", () => {
  let locks: IndexLock[] = [];
  afterEach(() => {
    for (const lock of locks.splice(0)) lock.close();
  });

  /** As in another process, by lock files of its own. */
  function openLock(): IndexLock {
    const lock = createIndexLock(folder);
    locks.push(lock);
    return lock;
  }

  let inside = 0; // writes under way, of all locks
  let mostInside = 0;

  /** Eight at a time; each write takes `writeMs`. */
  function keepWriting(lock: IndexLock, writeMs = 1) {
    let writing = true;
    let writes = 0;
    const all = Promise.all(Array.from({ length: 8 }, async () => {
      while (writing) {
        await lock.shared(async () => {
          mostInside = Math.max(mostInside, (inside += 1));
          await pause(writeMs);
          inside -= 1;
        });
        writes += 1;
      }
    }));
    return { writes: () => writes, async stop() { writing = false; await all; } };
  }

  test("lets many write at once, of all processes, and one be alone, however busy they are", async () => {
    const writers = [openLock(), openLock()].map((lock) => keepWriting(lock));
    const [lock] = locks;
    for (let i = 0; i < 20; i++) {
      await lock!.exclusive(5_000, async () => {
        expect(inside).toBe(0);
        const before = writers.map(({ writes }) => writes());
        await pause(5);
        expect(writers.map(({ writes }) => writes())).toEqual(before);
      });
      const before = writers.map(({ writes }) => writes());
      await eventually(() => writers.every(({ writes }, index) => writes() > before[index]! + 10), true);
    }
    await Promise.all(writers.map(({ stop }) => stop()));
    expect(mostInside).toBeGreaterThan(8);
  });

  test("lets one be alone beside writers whose disk is slow", async () => {
    const writers = [openLock(), openLock(), openLock()].map((lock) => keepWriting(lock, 700));
    await eventually(() => inside === 24, true);
    expect(await openLock().exclusive(10_000, () => inside)).toBe(0);
    await Promise.all(writers.map(({ stop }) => stop()));
  });

  test("lets only one be alone", async () => {
    const lock = openLock();
    let inside = 0;
    await Promise.all(Array.from({ length: 8 }, () => lock.exclusive(5_000, async () => {
      inside += 1;
      expect(inside).toBe(1);
      await pause(2);
      inside -= 1;
    })));
  });

  test("gives up on a writer that does not let go; others go on writing, in moments every three seconds", async () => {
    const [stuck, other] = [openLock(), openLock()];
    let finish = () => {};
    const underWay = stuck.shared(() => new Promise<void>((resolve) => (finish = resolve)));
    await nextTurn();
    const waiting = Promise.all(Array.from({ length: 3 }, () => other.exclusive(5_000, () => "alone").catch((error: unknown) => error)));
    await pause(200);
    const [askedAt, written] = [performance.now(), other.shared(async () => performance.now())];
    const waitedMs = (await written) - askedAt;
    expect(waitedMs).toBeGreaterThan(1_000); // there is someone before it
    expect(waitedMs).toBeLessThan(4_500);
    for (const outcome of await waiting) expect(outcome).toBeInstanceOf(NotAlone);
    finish();
    await underWay;
    expect(await other.exclusive(1_000, () => "alone")).toBe("alone");
  }, 15_000);

  test("lets a write begin although the process stood still from the moment its turn began", async () => {
    const lock = openLock();
    const writing = lock.shared(async () => "written");
    const until = performance.now() + 50;
    while (performance.now() < until); // longer than a turn
    expect(await writing).toBe("written");
    expect(await lock.exclusive(1_000, () => "free")).toBe("free");
  });

  test("lets a write that fails or throws end its turn", async () => {
    const lock = openLock();
    await expect(lock.shared(() => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    await expect(lock.shared(() => { throw new Error("thrown"); })).rejects.toThrow("thrown");
    await expect(lock.exclusive(1_000, () => Promise.reject(new Error("alone")))).rejects.toThrow("alone");
    expect(await lock.exclusive(1_000, () => "free")).toBe("free");
    expect(await lock.shared(async () => "free")).toBe("free");
  });

  test("is free again when the process that was alone, or wrote, is killed", async () => {
    const compiled = await compile();
    const lock = openLock();
    let other: ChildProcess | undefined;
    try {
      for (const how of ["exclusive", "shared"]) {
        const script = `const { createIndexLock } = await import(process.argv[1]);
          const lock = createIndexLock(process.argv[2]);
          const never = () => new Promise(() => process.stdout.write("inside"));
          setInterval(() => {}, 1_000);
          await (process.argv[3] === "shared" ? lock.shared(never) : lock.exclusive(1_000, never));`;
        other = spawn(process.execPath, ["--input-type=module", "-e", script, compiled.module.replace("disk.js", "index-lock.js"), folder, how], { stdio: ["ignore", "pipe", "inherit"] });
        await once(other.stdout!, "data");
        let written = false;
        const writing = lock.shared(async () => (written = true));
        await nextTurn();
        expect(written).toBe(how === "shared");
        await expect(lock.exclusive(50, () => {})).rejects.toBeInstanceOf(NotAlone);
        other.kill("SIGKILL");
        await writing;
        await lock.exclusive(5_000, () => {});
      }
    } finally {
      other?.kill("SIGKILL");
      await compiled.remove();
    }
  });
});

describe("a store on an index that is in use", () => {
  const open = () => openDiskStore({ folder, dependency: "inbox", smallObjectBytes: SMALL });
  const descriptors = () => (process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0);

  test("is not opened twice by one process: LMDB would forget that the first one is there", async () => {
    const store = await open();
    await expect(open()).rejects.toThrow(/in use by this process already/);
    await store.put("still", Buffer.from("good"));
    await store.close();
    const again = await open();
    expect(String(await again.readWhole("still"))).toBe("good");
    await again.close();
  });

  test("waits for the writes of others, and so do its own; closed in the meantime it fails them, and nothing is left open", async () => {
    await (await open()).close();
    const before = descriptors();
    const lock = createIndexLock(join(folder, "index"));
    let finish = () => {};
    const underWay = lock.shared(() => new Promise<void>((resolve) => (finish = resolve)));
    const opening = open();
    expect(await Promise.race([opening.then(() => "open"), pause(300, "waits")])).toBe("waits");
    finish();
    await underWay;
    const store = await opening;
    const alone = lock.exclusive(5_000, () => pause(500));
    await pause(50);
    const waiting = expect(store.put("late", Buffer.from("x"))).rejects.toBeInstanceOf(Unavailable);
    await store.close();
    await waiting;
    await alone;
    lock.close();
    expect(descriptors()).toBe(before);
  });
});
