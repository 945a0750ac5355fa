import { execFile, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "../..");
export const PROGRAM = join(import.meta.dirname, "other-process.mjs");

/** src/objects as JavaScript, for processes of their own: what is tested is the source as it is, not an older build. */
export async function compile() {
  const folder = await mkdtemp(join(tmpdir(), "connectstorm-compiled-"));
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({
    extends: join(ROOT, "tsconfig.json"),
    compilerOptions: { rootDir: join(ROOT, "src"), outDir: folder, sourceMap: false },
    include: [join(ROOT, "src/objects/disk.ts"), join(ROOT, "src/objects/*.d.ts")],
  }));
  await promisify(execFile)(process.execPath, [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", folder], { cwd: ROOT });
  return { module: join(folder, "objects/disk.js"), remove: () => rm(folder, { recursive: true }) };
}

/** A process that does to the store what it is told. */
export async function openOtherProcess(module: string, folder: string, smallObjectBytes: number) {
  const child = fork(PROGRAM, [module, folder, String(smallObjectBytes), "obey"]);
  const answer = async () => {
    const [message] = (await once(child, "message")) as [{ result: unknown }];
    return message.result;
  };
  await answer();
  return {
    async call(method: string, ...args: unknown[]) {
      child.send({ method, args });
      return answer();
    },
    async close() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** A process that keeps the lock of the index for a second; returns once it has it. */
export async function holdLock(module: string, folder: string): Promise<{ released: Promise<unknown> }> {
  const child = fork(PROGRAM, [module, folder, "0", "hold"]);
  const released = once(child, "exit");
  await once(child, "message");
  return { released };
}

/** Lets a process put 32 objects at a time, kills it at the `acknowledged`th, and returns the keys it had told of by then. */
export async function putAndKill(module: string, folder: string, smallObjectBytes: number, acknowledged: number): Promise<string[]> {
  const child = fork(PROGRAM, [module, folder, String(smallObjectBytes), "flood"]);
  const keys: string[] = [];
  child.on("message", (key) => {
    keys.push(key as string);
    if (keys.length === acknowledged) child.kill("SIGKILL");
  });
  await once(child, "close");
  return keys;
}
