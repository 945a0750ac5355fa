/**
 * libfaketime, by which the tests run a process under another clock: the machine's own, else Debian's unpacked into the
 * servers' folder. Linux only.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { openOwnRelease, readDebianMachine } from "./debian-packages.ts";
import { isProvided, provideFolder } from "./folders.ts";
import { runProgram } from "./processes.ts";

/** The one for programs with threads. */
const LIBRARY = "libfaketimeMT.so.1";
/** Where Debian, Fedora, Arch and its own Makefile put it. */
const PLACES = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime"];

/** @returns the path of a library for LD_PRELOAD @throws Error that says what is missing */
export async function provideFaketime(serversFolder: string): Promise<string> {
  const installed = PLACES.map((folder) => join(folder, LIBRARY)).find((path) => existsSync(path));
  const library = installed ?? await provideOwn(serversFolder);
  // A loader that cannot use the library says so, and goes on without it.
  const year = await runProgram("date", ["+%Y"], { env: { ...process.env, LD_PRELOAD: library, FAKETIME: "@2001-01-01 00:00:00" } });
  if (year.trim() !== "2001") throw new Error(`${library} does not change the clock here.`);
  return library;
}

async function provideOwn(serversFolder: string): Promise<string> {
  const machine = await readDebianMachine();
  if (machine.missing) throw new Error(explainMissing(machine.missing));
  const folder = join(serversFolder, `faketime-${machine.codename}-${machine.architecture}`);
  if (!(await isProvided(folder))) {
    await provideFolder(folder, async (temporary) => {
      const release = await openOwnRelease(serversFolder);
      await release.unpack(["libfaketime"], temporary, () => false);
    }).catch((error: Error) => { throw new Error(explainMissing(error.message)); });
  }
  return join(folder, "usr/lib", machine.triplet, "faketime", LIBRARY);
}

function explainMissing(reason: string): string {
  return `libfaketime, for the tests of a wrong clock, could not be fetched. ${reason}\nInstall it: apt-get install libfaketime`;
}
