/** A browser for tests and simulation: CHROME_PATH, Puppeteer's own setting, the machine's, or Debian's headless shell unpacked into the servers' folder. */
import { existsSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openOwnRelease, readDebianMachine } from "./debian-packages.ts";
import { isProvided, provideFolder } from "./folders.ts";
import { findProgram, runProgram } from "./processes.ts";

/** The full browser is five times slower and its windows share one focus: the shell comes first. */
const INSTALLED = ["chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable"];
const DEBIAN_SHELL = "/usr/lib/chromium/chromium-headless-shell";
const MAC = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"];

/** What it is started with: in the plain C locale, as services and containers have it, it cannot open a file whose name is not ASCII. */
export function chromiumEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, ...(process.platform === "linux" && { LC_ALL: "C.UTF-8" }) };
}

/** @returns the path of an executable @throws Error that says what to install */
export async function provideChromium(serversFolder: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  for (const setting of ["CHROME_PATH", "PUPPETEER_EXECUTABLE_PATH"]) {
    const chosen = env[setting];
    if (chosen && !existsSync(chosen)) throw new Error(`${setting} names ${chosen}, which is not there.`);
    if (chosen) return chosen;
  }
  // Debian's launcher in /usr/bin waits in a shell, which would leave the browser behind when killed.
  if (existsSync(DEBIAN_SHELL)) return DEBIAN_SHELL;
  for (const name of INSTALLED) {
    const path = findProgram(name);
    // Ubuntu's is a stub that starts a snap, which root and containers cannot use.
    if (path && !(await runProgram("sh", ["-c", 'head -c 4096 "$1" | grep -q snap && echo snap || true', "sh", path])).includes("snap")) return path;
  }
  const mac = MAC.find((path) => existsSync(path));
  if (mac) return mac;

  const machine = await readDebianMachine();
  if (machine.missing) throw new Error(explainMissing(machine.missing));
  const folder = join(serversFolder, `chromium-${machine.codename}-${machine.architecture}`);
  const launcher = join(folder, "chromium");
  if (!(await isProvided(folder))) {
    await provideFolder(folder, async (temporary) => {
      const release = await openOwnRelease(serversFolder);
      // The graphics drivers are 100 MB and the headless shell draws without them.
      await release.unpack(["chromium-headless-shell", "fonts-dejavu-core"], temporary,
        (name) => /^(lib(?!c6$|gcc-s1$|llvm|gl1-mesa|glx|perl|z3|drm-)|chromium-common$)/.test(name));
      await writeLauncher(temporary, machine.triplet);
      await runProgram(join(temporary, "chromium"), ["--no-sandbox", "--dump-dom", "data:text/html,<p>ready"]);
    }).catch((error: Error) => { throw new Error(explainMissing(error.message)); });
  }
  return launcher;
}

function explainMissing(reason: string): string {
  return `Chromium, the browser the pages are used with, could not be fetched. ${reason}\n`
    + "Install it (apt-get install chromium-headless-shell) or name one: CHROME_PATH=/path/to/chrome";
}

/** The one sans stands in for every family that is not there: else some weights have serifs. The launcher finds its own folder, so that the folder may be moved into place after it was tried. */
async function writeLauncher(folder: string, triplet: string): Promise<void> {
  const launcher = join(folder, "chromium");
  await writeFile(join(folder, "fonts.conf"), `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir prefix="relative">usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir>
<match target="pattern"><edit name="family" mode="append_last" binding="strong"><string>DejaVu Sans</string></edit></match>
</fontconfig>
`);
  await writeFile(launcher, `#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH="$here/usr/lib/${triplet}:$here/lib/${triplet}:$here/usr/lib/${triplet}/pulseaudio\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/usr/lib/chromium/chromium-headless-shell" "$@"
`);
  await chmod(launcher, 0o755);
}
