import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createBackoff } from "../../scripts/backoff.ts";
import { isProvided, provideFolder } from "../../scripts/servers/folders.ts";
import { isRunning } from "../../scripts/servers/pid-files.ts";
import { findFreePort, isListening, isPortFree } from "../../scripts/servers/ports.ts";
import { runProgram, spawnServer, waitUntilReady } from "../../scripts/servers/processes.ts";
import { supervise } from "../../scripts/supervisor.ts";
import { eventually } from "../support/eventually.ts";

let folder: string;
beforeEach(async () => { folder = await mkdtemp(join(tmpdir(), "processes-")); });
afterEach(() => rm(folder, { recursive: true, force: true }));

function node(code: string, name = "sleeper") {
  return spawnServer({ name, command: process.execPath, args: ["-e", code], logFile: join(folder, `${name}.log`) });
}
const logOf = (name: string) => readFile(join(folder, `${name}.log`), "utf8");
const isUp = async () => (await logOf("sleeper")).includes("up");

describe("a server process", () => {
  test("that ignores the polite signal is ended with all its children", async () => {
    const server = node(`process.on("SIGTERM", () => {});
      const child = require("child_process").spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
      console.log("up", child.pid); setInterval(() => {}, 1000)`);
    await waitUntilReady(server, isUp, 10_000);
    const child = Number(/up (\d+)/.exec(await logOf("sleeper"))?.[1]);
    expect(isRunning(child)).toBe(true);
    await server.stop(200);
    expect(isRunning(server.pid)).toBe(false);
    await eventually(() => isRunning(child), false);
  });

  test("that ends before it is ready is reported with the end of its log", async () => {
    const server = node(`console.error("no such setting"); process.exit(3)`);
    await expect(waitUntilReady(server, async () => false, 10_000)).rejects.toThrow(/ended at once \(code 3\)[^]*no such setting/);
  });

  test("that is never ready is reported after the time it was given", async () => {
    const server = node("setInterval(() => {}, 1000)");
    await expect(waitUntilReady(server, async () => false, 100)).rejects.toThrow("was not ready after 0.1 s");
    await server.stop(0);
  });

  test.runIf(process.platform === "linux")("that dies takes what it started with it, however it dies", async () => {
    const module = join(import.meta.dirname, "../../dist/scripts/servers/processes.js");
    const parent = node(`import(${JSON.stringify(module)}).then(({ spawnServer }) => {
      const child = spawnServer({ name: "child", command: process.execPath, args: ["-e", "setInterval(() => {}, 1000)"], logFile: "/dev/null" });
      console.log("up", child.pid); setInterval(() => {}, 1000) })`);
    await waitUntilReady(parent, isUp, 10_000);
    const child = Number(/up (\d+)/.exec(await logOf("sleeper"))?.[1]);
    process.kill(parent.pid, "SIGKILL");
    await eventually(() => isRunning(child), false);
  });
});

test("a program that fails is quoted", async () => {
  await expect(runProgram("sh", ["-c", "echo out; echo why >&2; exit 7"])).rejects.toThrow("sh failed (7): why");
  await expect(runProgram("/no/such/program", [])).rejects.toThrow("could not be started");
});

describe("a supervised process", () => {
  test("is started again when it dies, says so, has its pid written down, and stops when told", async () => {
    const said: string[] = [];
    const pidFile = join(folder, "run", "sleeper.pid");
    const kept = await supervise(
      { name: "sleeper", pidFile, graceMs: 1_000, start: async () => node("setInterval(() => {}, 1000)") }, (line) => said.push(line),
    );
    const first = Number(await readFile(pidFile, "utf8"));
    process.kill(first, "SIGKILL");
    await eventually(() => said.length, 2, 5_000);
    const second = Number(await readFile(pidFile, "utf8"));
    expect(said).toEqual([`sleeper stopped unexpectedly (SIGKILL); starting it again in 0.5 s`, `sleeper runs again (pid ${second})`]);
    await kept.stop();
    expect(isRunning(second)).toBe(false);
    expect(said).toHaveLength(2);
    await expect(readFile(pidFile)).rejects.toThrow("ENOENT");
  });

  test("that cannot be started the first time is an error, not a loop", async () => {
    const start = () => Promise.reject(new Error("no such program"));
    await expect(supervise({ name: "x", pidFile: join(folder, "x.pid"), graceMs: 0, start }, () => undefined)).rejects.toThrow("no such program");
  });
});

test("the wait before another start doubles to half a minute, and begins anew after a minute's life", () => {
  const backoff = createBackoff();
  expect(Array.from({ length: 8 }, () => backoff.next(100))).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  expect(backoff.next(60_000)).toBe(500);
  expect(backoff.next(100)).toBe(1000);
});

describe("a port", () => {
  test("that is taken is not free, and another one is found in its place", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    expect(await isPortFree(port)).toBe(false);
    expect(await isListening(port)).toBe(true);
    expect(await findFreePort([port])).not.toBe(port);
    server.close();
    await eventually(() => isPortFree(port), true);
    expect(await isListening(port)).toBe(false);
    expect(await findFreePort([port])).toBe(port);
  });

  test("is found below those that Linux gives to outgoing connections", async () => {
    expect(await findFreePort()).toBeLessThan(32_768);
  });
});

describe("a provided folder", () => {
  test("appears whole or not at all", async () => {
    const target = join(folder, "server");
    await expect(provideFolder(target, async () => { throw new Error("interrupted"); })).rejects.toThrow("interrupted");
    expect(await isProvided(target)).toBe(false);
    await provideFolder(target, async (temporary) => { await runProgram("touch", [join(temporary, "whole")]); });
    expect(await readFile(join(target, "whole"), "utf8")).toBe("");
  });

  test("is built once by two who want it at the same time, and both can use it", async () => {
    const target = join(folder, "server");
    const build = async (temporary: string) => { await runProgram("touch", [join(temporary, "whole")]); };
    await Promise.all([provideFolder(target, build), provideFolder(target, build)]);
    expect((await runProgram("ls", ["-A", folder])).trim()).toBe("server");
    await provideFolder(target, async () => { throw new Error("built again"); });
  });
});
