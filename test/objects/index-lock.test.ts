import { execFile, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openDiskStore } from "../../src/objects/disk.ts";
import { createIndexLock, NotAlone } from "../../src/objects/index-lock.ts";
import { eventually } from "../support/eventually.ts";
import { missingOnLinux } from "../support/servers.ts";
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
    await promisify(execFile)(process.env.TEST_STRACE!, [
      "-f", "-qq", "-o", "/dev/null", "-P", join(folder, "index", "data.mdb"), "-e", "trace=pread64", "-e", "inject=pread64:delay_exit=60000",
      process.execPath, PROGRAM, compiled.module, folder, String(SMALL), "look",
    ]);
  }

  test("takes back nothing that was acknowledged meanwhile", async () => {
    const writer = fork(PROGRAM, [compiled.module, folder, String(SMALL), "trickle"]); // not this process: it may well crash
    const acknowledged: string[] = [];
    writer.on("message", (key) => acknowledged.push(key as string));
    const ended = once(writer, "close");
    await once(writer, "message");
    for (let i = 0; i < 6; i++) await openSlowly();
    if (writer.connected) writer.send("end");
    expect(await ended).toEqual([0, null]);
    expect(acknowledged.length).toBeGreaterThan(50);
    const store = await openDiskStore({ folder, dependency: "inbox", smallObjectBytes: SMALL });
    const present = new Set((await store.list("", { limit: 100_000 })).map(({ key }) => key));
    await store.close();
    expect(acknowledged.filter((key) => !present.has(key))).toEqual([]);
  });
});

describe("the lock of an index", () => {
  /** As a writer in another process would be: by lock files of its own. */
  function keepWriting(lock: ReturnType<typeof createIndexLock>) {
    let writing = true;
    let writes = 0;
    const all = Promise.all(Array.from({ length: 8 }, async () => {
      while (writing) {
        await lock.shared(() => pause(1));
        writes += 1;
      }
    }));
    return { writes: () => writes, async stop() { writing = false; await all; } };
  }

  test("lets many write at once, and one be alone, who never waits for long", async () => {
    const [one, other] = [createIndexLock(folder), createIndexLock(folder)];
    const writers = [keepWriting(one), keepWriting(other)];
    let inside = 0;
    for (let i = 0; i < 20; i++) {
      const startedAt = performance.now();
      await one.exclusive(5_000, async () => {
        expect(performance.now() - startedAt).toBeLessThan(1_000);
        const before = writers.map(({ writes }) => writes());
        inside += 1;
        await pause(5);
        expect(writers.map(({ writes }) => writes())).toEqual(before);
        inside -= 1;
      });
      const before = writers.map(({ writes }) => writes());
      await eventually(() => writers.every(({ writes }, index) => writes() > before[index]! + 10), true);
    }
    expect(inside).toBe(0);
    await Promise.all(writers.map(({ stop }) => stop()));
    one.close();
    other.close();
  });

  test("lets only one be alone", async () => {
    const lock = createIndexLock(folder);
    let inside = 0;
    await Promise.all(Array.from({ length: 8 }, () => lock.exclusive(5_000, async () => {
      inside += 1;
      expect(inside).toBe(1);
      await pause(2);
      inside -= 1;
    })));
    lock.close();
  });

  test("gives up on a writer that does not let go, and keeps the others from writing for moments only", async () => {
    const [stuck, other] = [createIndexLock(folder), createIndexLock(folder)];
    let finish = () => {};
    const underWay = stuck.shared(() => new Promise<void>((resolve) => (finish = resolve)));
    const writer = keepWriting(other);
    let worked = false;
    const waiting = other.exclusive(1_200, () => (worked = true)).catch((error: unknown) => error);
    const before = writer.writes();
    expect(await waiting).toBeInstanceOf(NotAlone);
    expect(worked).toBe(false);
    expect(writer.writes()).toBeGreaterThan(before);
    finish();
    await underWay;
    await other.exclusive(1_000, () => (worked = true));
    expect(worked).toBe(true);
    await writer.stop();
    stuck.close();
    other.close();
  });

  test("lets a write that fails or throws end its turn", async () => {
    const lock = createIndexLock(folder);
    await expect(lock.shared(() => Promise.reject(new Error("failed")))).rejects.toThrow("failed");
    await expect(lock.shared(() => { throw new Error("thrown"); })).rejects.toThrow("thrown");
    await expect(lock.exclusive(1_000, () => Promise.reject(new Error("alone")))).rejects.toThrow("alone");
    expect(await lock.exclusive(1_000, () => "free")).toBe("free");
    expect(await lock.shared(async () => "free")).toBe("free");
    lock.close();
  });

  test("is free again when the process that was alone, or wrote, is killed", async () => {
    const compiled = await compile();
    const lock = createIndexLock(folder);
    try {
      for (const how of ["exclusive", "shared"]) {
        const script = `const { createIndexLock } = await import(process.argv[1]);
          const lock = createIndexLock(process.argv[2]);
          const never = () => new Promise(() => process.stdout.write("inside"));
          setInterval(() => {}, 1_000);
          await (process.argv[3] === "shared" ? lock.shared(never) : lock.exclusive(1_000, never));`;
        const other = spawn(process.execPath, ["--input-type=module", "-e", script, compiled.module.replace("disk.js", "index-lock.js"), folder, how], { stdio: ["ignore", "pipe", "inherit"] });
        await once(other.stdout, "data");
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
      lock.close();
      await compiled.remove();
    }
  });
});
