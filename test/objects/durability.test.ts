import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { missingOnLinux } from "../support/servers.ts";
import { compile } from "./disk-process.ts";

const SMALL = 16 * 1024;

/** Puts, adopts and puts again, each between two marks: flushes of files with names to know them by. */
const SCRIPT = `
  import { closeSync, fsyncSync, openSync } from "node:fs";
  import { join } from "node:path";
  const [module, folder] = process.argv.slice(1);
  const { openDiskStore } = await import(module);
  const mark = (name) => { const fd = openSync(join(folder, name), "w"); fsyncSync(fd); closeSync(fd); };
  const between = async (name, work) => { mark(name + "-begins"); await work(); mark(name + "-acknowledged"); };
  const open = (name) => openDiskStore({ folder: join(folder, name), dependency: "inbox", smallObjectBytes: ${SMALL} });
  const [inbox, storage] = [await open("inbox"), await open("storage")];
  await inbox.put("warm", Buffer.alloc(${SMALL + 1}));
  await between("small", () => inbox.put("small", Buffer.from("x"), { ifAbsent: true }));
  await between("large", () => inbox.put("large", Buffer.alloc(300_000, 1), { ifAbsent: true }));
  await between("adopted", () => storage.adopt("adopted", inbox, "large", { ifAbsent: true }));
  await between("overwritten", () => inbox.put("large", Buffer.alloc(400_000, 2)));
  await Promise.all([inbox.close(), storage.close()]);
`;

describe.skipIf(missingOnLinux("TEST_STRACE"))("before an object is acknowledged", () => {
  let folder: string;
  let calls: string[]; // as they were finished
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "connectstorm-durability-"));
    const compiled = await compile();
    const trace = join(folder, "trace");
    await promisify(execFile)(process.env.TEST_STRACE!, [
      "-f", "-y", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync,pwrite64", "-e", "signal=none",
      process.execPath, "--input-type=module", "-e", SCRIPT, compiled.module, folder,
    ], { env: { ...process.env, UV_THREADPOOL_SIZE: "1" } });
    await compiled.remove();
    calls = finished(await readFile(trace, "utf8"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Flushes and writes of what was done between two marks: the call, and the file or folder it was of. */
  function callsOf(what: string): string[] {
    const [from, to] = [`${what}-begins`, `${what}-acknowledged`].map((mark) => calls.indexOf(`fsync ${mark}`));
    expect(from).toBeGreaterThanOrEqual(0);
    expect(to).toBeGreaterThan(from!);
    return calls.slice(from! + 1, to).map((call) => call.replace(/\/[0-9a-f]{64}-[0-9a-f-]{36}$/, "/name").replace(/files\/[0-9a-f]{2}/, "files/fan-out"));
  }

  /** The record's pages are flushed, then the page that makes them count is written: through a descriptor that flushes by itself. */
  const committed = (index: string) => [`fdatasync ${index}/index/data.mdb`, `pwrite64 ${index}/index/data.mdb`];

  test("its record is flushed", () => {
    expect(callsOf("small").slice(-2)).toEqual(committed("inbox"));
  });

  test.each([
    ["in a new folder", "large", ["fsync inbox/files"]],
    ["in a folder that was there", "overwritten", []],
  ])("its bytes and the folder that has their name are flushed, then its record (%s)", (_where, what, more) => {
    const found = callsOf(what);
    const before = found.slice(0, found.findIndex((call) => call.includes("/index/")));
    expect(before.filter((call) => !call.startsWith("pwrite64")).toSorted()).toEqual(["fdatasync inbox/files/fan-out/name", "fsync inbox/files/fan-out", ...more].toSorted());
    expect(found.lastIndexOf("pwrite64 inbox/files/fan-out/name")).toBeLessThan(found.indexOf("fdatasync inbox/files/fan-out/name"));
    expect(found.slice(-2)).toEqual(committed("inbox"));
  });

  test("the folder that has its new name is flushed, where it is taken over from another store", () => {
    const found = callsOf("adopted");
    expect(found.slice(0, found.findIndex((call) => call.includes("/index/")))).toContain("fsync storage/files/fan-out");
    expect(found.slice(-2)).toEqual(committed("storage"));
  });

  /** "fsync inbox/files/ab" for each call that ended well, in the order in which they ended. */
  function finished(trace: string): string[] {
    const begun = new Map<string, string>();
    const done: string[] = [];
    for (const line of trace.split("\n")) {
      const [, thread, call, path] = /^(\d+) +(\w+)\(\d+<([^>]*)>/.exec(line) ?? [];
      if (thread) begun.set(thread, `${call} ${path!.replace(`${folder}/`, "")}`);
      const [, ended] = /^(\d+) .*\) += \d+$/.exec(line) ?? [];
      if (ended && begun.has(ended)) done.push(begun.get(ended)!);
    }
    return done;
  }
});
