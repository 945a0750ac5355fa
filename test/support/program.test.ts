import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "./eventually.ts";
import { memoryCgroup } from "./memory-cgroup.ts";
import { startNode, type Conditions, type Program } from "./program.ts";
import { missingOnLinux } from "./servers.ts";

let folder: string;
let programs: Program[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "program-"));
});
afterEach(async () => {
  for (const program of programs) program.kill("SIGKILL");
  await Promise.all(programs.map(({ exit }) => exit));
  programs = [];
  rmSync(folder, { recursive: true });
});

function run(code: string, conditions: Conditions = {}, env: Record<string, string> = {}): Program {
  const program = startNode(["--input-type=module", "-e", `import fs from "node:fs/promises";\n${code}`], { FOLDER: folder, ...env }, conditions);
  programs.push(program);
  return program;
}

/** Flushes a file five times and says how each went. */
const FLUSHES = `
  const file = await fs.open(process.env.FOLDER + "/file", "w");
  for (let time = 1; time <= 5; time++) {
    await file.write("x");
    await file.datasync().then(() => console.log(time, "flushed"), (error) => console.log(time, error.code));
  }
  console.log(process.pid, process.env.LD_LIBRARY_PATH);`;

describe.skipIf(missingOnLinux("TEST_STRACE"))("a process under strace", () => {
  test("gets the error that was ordered, at the call it was ordered for", async () => {
    const program = run(FLUSHES, { strace: ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=2"] }, { UV_THREADPOOL_SIZE: "1" });
    expect(await program.exit).toBe(0);
    expect(program.output()).toMatch(/1 flushed\n2 EIO\n3 flushed\n4 flushed\n5 flushed/);
  });

  test("dies at the call it is to die at", async () => {
    const program = run(FLUSHES, { strace: ["-e", "inject=fdatasync:signal=KILL:when=3"] }, { UV_THREADPOOL_SIZE: "1" });
    expect(await program.exit).toBeNull();
    expect(program.child.signalCode).toBe("SIGKILL");
    expect(program.output()).toBe("1 flushed\n2 flushed\n");
    expect(readFileSync(join(folder, "file"), "utf8")).toBe("xxx");
  });

  test("gets the error only on the path it was ordered for, and the calls can be read afterwards", async () => {
    const elsewhere = run(FLUSHES, { strace: ["-P", join(folder, "other"), "-e", "inject=fdatasync:error=EIO"] });
    const seen = join(folder, "seen");
    const here = run(FLUSHES, { strace: ["-o", seen, "-P", join(folder, "file"), "-e", "inject=fdatasync:error=EIO"] });
    await Promise.all([elsewhere.exit, here.exit]);
    expect(elsewhere.output()).not.toMatch(/EIO/);
    expect(here.output().match(/EIO/g)).toHaveLength(5);
    expect(readFileSync(seen, "utf8").match(/INJECTED/g)).toHaveLength(5);
  });

  test("is itself what is measured, signalled and asked for its exit code, and has its own environment", async () => {
    const program = run(`setInterval(() => {}, 1_000); process.on("SIGTERM", () => process.exit(7));\n${FLUSHES}`, { strace: [] });
    await program.says(new RegExp(`${program.pid} undefined`));
    expect(readFileSync(`/proc/${program.pid}/cmdline`, "utf8")).toMatch(new RegExp(`^${process.execPath}\0`));
    expect(program.memory("VmRSS")).toBeGreaterThan(20_000);
    const before = program.descriptors();
    expect(before).toBeGreaterThan(5);
    program.kill("SIGTERM");
    expect(await program.exit).toBe(7);
  });
});

/** Says what the clock says, and how much of it 300 ms of a timer are. */
const CLOCK = `
  const [startedAt, began] = [Date.now(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 300));
  console.log(JSON.stringify({ now: startedAt, byClock: Date.now() - startedAt, byTimer: performance.now() - began }));`;

describe.skipIf(missingOnLinux("TEST_FAKETIME"))("a process under another clock", () => {
  test.each([["+1h", 3_600_000], ["-1h", -3_600_000]])("is %s off, and its timers are not", async (clock, offMs) => {
    const startedAt = Date.now();
    const program = run(CLOCK, { clock });
    expect(await program.exit).toBe(0);
    const said = JSON.parse(program.output());
    expect(said.now - offMs).toBeGreaterThanOrEqual(startedAt);
    expect(said.now - offMs).toBeLessThanOrEqual(Date.now());
    for (const elapsedMs of [said.byClock, said.byTimer]) {
      expect(elapsedMs).toBeGreaterThan(295);
      expect(elapsedMs).toBeLessThan(3_000);
    }
  });

  test("leaves nothing in shared memory when it is killed", async () => {
    const program = run("console.log('running'); setInterval(() => {}, 1_000);", { clock: "+1h" });
    await program.says(/running/);
    program.kill("SIGKILL");
    await program.exit;
    expect(readdirSync("/dev/shm").filter((name) => name.endsWith(`_${program.pid}`))).toEqual([]);
  });

  test.skipIf(missingOnLinux("TEST_STRACE"))("may be traced too", async () => {
    const program = run(`${CLOCK}${FLUSHES}`, { clock: "+1h", strace: ["-e", "inject=fdatasync:error=EIO"] });
    expect(await program.exit).toBe(0);
    expect(JSON.parse(program.output().split("\n")[0]!).now).toBeGreaterThan(Date.now() + 3_500_000);
    expect(program.output()).toMatch(/1 EIO/);
  });
});

const MIB = 1024 ** 2;

describe("a process in a memory cgroup", () => {
  test("that has enough runs, and its peak is known; one that has not is ended, and so is the group when it is removed", async (context) => {
    const cgroup = memoryCgroup(200 * MIB);
    if (!cgroup) return context.skip("this machine makes no memory cgroups for us");
    const hoard = (chunks: number) => `const kept = []; for (let i = 0; i < ${chunks}; i++) kept.push(Buffer.alloc(${MIB}, 1)); console.log("enough");`;
    const modest = run(hoard(20), { cgroup });
    expect(await modest.exit).toBe(0);
    expect(cgroup.kills()).toBe(0);
    expect(cgroup.peakBytes()).toBeGreaterThan(20 * MIB);
    expect(cgroup.peakBytes()).toBeLessThan(200 * MIB);
    const greedy = run(hoard(500), { cgroup });
    expect(await greedy.exit).toBeNull();
    expect(greedy.output()).not.toMatch(/enough/);
    await eventually(() => cgroup.kills(), 1);
    await cgroup.remove();
    expect(() => readdirSync(cgroup.folder)).toThrow(/ENOENT/);
  });
});
