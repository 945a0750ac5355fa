import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findOwner, isRunning, stopLeftover, takePid, writePid } from "../../scripts/servers/pid-files.ts";

let folder: string;
beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), "pid-files-")); });
afterEach(() => rm(folder, { recursive: true, force: true }));

async function sleeper(mark: string) {
  const child = spawn(process.execPath, ["-e", "console.log('up'); setInterval(() => {}, 1000)", mark], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
  await once(child.stdout, "data");
  return child;
}

describe("a pid file", () => {
  test("names its owner only while that process lives and is the one that was meant", async () => {
    const file = join(folder, "web.pid");
    const child = await sleeper("web-of-this-test");
    await writePid(file, child.pid ?? 0);
    expect(await findOwner(file, { commandLine: "web-of-this-test" })).toBe(child.pid);
    expect(await findOwner(file, { commandLine: "web-of-this-test", folder: process.cwd() })).toBe(child.pid);
    expect(await findOwner(file, { commandLine: "web-of-this-test", folder: "/" })).toBeUndefined();
    expect(await findOwner(file, { commandLine: "another program" })).toBeUndefined();
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(await findOwner(file, { commandLine: "web-of-this-test" })).toBeUndefined();
  });

  test.each(["", "abc", "-1", "0", "1", "4194305"])("that holds %j names nobody", async (text) => {
    const file = join(folder, "web.pid");
    await writeFile(file, text);
    expect(await findOwner(file, { commandLine: "" })).toBeUndefined();
  });

  test("is taken by the first who asks, and taken over from the dead", async () => {
    const file = join(folder, "start.pid");
    await writeFile(file, "4194305\n");
    const me = { commandLine: process.execPath };
    expect(await takePid(file, me)).toBe(process.pid);
    expect(Number(await readFile(file, "utf8"))).toBe(process.pid);
    const child = await sleeper("the-first");
    await writePid(file, child.pid ?? 0);
    expect(await takePid(file, { commandLine: "the-first" })).toBe(child.pid);
    child.kill("SIGKILL");
  });

  test("leads to a leftover, which is stopped; a stranger with its pid is not touched", async () => {
    const file = join(folder, "worker.pid");
    const child = await sleeper("the-leftover");
    const pid = child.pid ?? 0;
    await writePid(file, pid);
    expect(await stopLeftover(file, { commandLine: "something else" }, "SIGTERM", 1_000)).toBe(false);
    expect(isRunning(pid)).toBe(true);
    await writePid(file, pid);
    expect(await stopLeftover(file, { commandLine: "the-leftover" }, "SIGTERM", 1_000)).toBe(true);
    expect(isRunning(pid)).toBe(false);
  });
});
