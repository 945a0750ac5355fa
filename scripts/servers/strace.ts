/** strace, by which the tests let system calls fail: the machine's own, else Debian's unpacked into the servers' folder. Linux only. */
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openOwnRelease, readDebianMachine } from "./debian-packages.ts";
import { isProvided, provideFolder } from "./folders.ts";
import { findProgram, runProgram } from "./processes.ts";

/** @returns the path of an executable @throws Error that says what is missing, or that nothing may be traced here */
export async function provideStrace(serversFolder: string): Promise<string> {
  const strace = findProgram("strace") ?? await provideOwn(serversFolder);
  await runProgram(strace, ["-f", "-o", "/dev/null", "-e", "inject=chdir:error=EIO", "true"]).catch((error: Error) => {
    throw new Error(`strace is there but may not trace: ${error.message}\nA container needs the capability SYS_PTRACE.`);
  });
  return strace;
}

async function provideOwn(serversFolder: string): Promise<string> {
  const machine = await readDebianMachine();
  if (machine.missing) throw new Error(explainMissing(machine.missing));
  const folder = join(serversFolder, `strace-${machine.codename}-${machine.architecture}`);
  if (!(await isProvided(folder))) {
    await provideFolder(folder, async (temporary) => {
      const release = await openOwnRelease(serversFolder);
      await release.unpack(["strace"], temporary, (name) => name.startsWith("lib") && name !== "libc6");
      await writeLauncher(temporary, machine.triplet);
    }).catch((error: Error) => { throw new Error(explainMissing(error.message)); });
  }
  return join(folder, "strace");
}

function explainMissing(reason: string): string {
  return `strace, for the tests of failing system calls, could not be fetched. ${reason}\nInstall it: apt-get install strace`;
}

/** The libraries are for strace alone: what it traces gets the variable as it was, or none. */
async function writeLauncher(folder: string, triplet: string): Promise<void> {
  const launcher = join(folder, "strace");
  await writeFile(launcher, `#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
given="LD_LIBRARY_PATH\${LD_LIBRARY_PATH+=$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH="$here/usr/lib/${triplet}:$here/lib/${triplet}"
exec "$here/usr/bin/strace" -E "$given" "$@"
`);
  await chmod(launcher, 0o755);
}
