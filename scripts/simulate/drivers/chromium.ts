import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import puppeteer, { type Browser } from "puppeteer";
import { chromiumEnvironment, provideChromium } from "../../servers/chromium.ts";
import { findServersFolder, isRoot } from "../../servers/folders.ts";
import { findProgram } from "../../servers/processes.ts";
import { formatBytes } from "../quantities.ts";

/** Chromium's own words where the kernel grants no user namespaces, as in most containers. */
const NO_SANDBOX = /No usable sandbox|sandbox/i;
const WITH_WINDOWS = ["chromium", "google-chrome", "google-chrome-stable", "chromium-browser"];
/** Reading smaps walks page tables: seldom. */
const MEMORY_MS = 2_000;
const PAGE_BYTES = 4096;

export const WINDOW = { width: 1000, height: 800 };

export interface Chromium {
  browser: Browser;
  version: string;
  isGone(): boolean;
  /** What is asked of a browser that died in this moment may never be answered: this rejects then. */
  orGone<T>(work: Promise<T>): Promise<T>;
  /** Of all its processes together, the most that was seen. */
  memory(): string;
  close(): Promise<void>;
}

/** One browser for all users, each of whom gets a context. @throws Error that says how to get Chromium */
export async function launchChromium({ root, headless, say }: { root: string; headless: boolean; say(line: string): void }): Promise<Chromium> {
  const executablePath = headless ? await provideChromium(findServersFolder(root)) : findWindowed();
  const launch = (sandbox: boolean) => puppeteer.launch({
    executablePath, headless, handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false,
    // It ends with its pipe, and so with us, whatever kills us.
    pipe: true, protocolTimeout: 120_000, defaultViewport: WINDOW,
    env: chromiumEnvironment(),
    args: [...(sandbox ? [] : ["--no-sandbox"]), ...(hasSharedMemory() ? [] : ["--disable-dev-shm-usage"])],
  });
  let browser: Browser;
  if (isRoot()) {
    say("• Chromium runs without its sandbox, which root cannot have");
    browser = await launch(false);
  } else {
    browser = await launch(true).catch((error: Error) => {
      if (!NO_SANDBOX.test(error.message)) throw error;
      say("• Chromium runs without its sandbox, which this machine does not let it have");
      return launch(false);
    });
  }
  let gone = false;
  const died = new Promise<never>((_, reject) => {
    const end = () => {
      gone = true;
      reject(new Error("the browser has disconnected"));
    };
    browser.once("disconnected", end);
    browser.process()?.once("exit", end);
  });
  died.catch(() => undefined); // nobody may be waiting just then
  const watch = watchMemory(browser.process()?.pid ?? 0);
  return {
    browser, version: await browser.version(), isGone: () => gone, orGone: (work) => Promise.race([work, died]), memory: watch.describe,
    async close() {
      watch.stop();
      if (gone) return;
      await Promise.race([browser.close(), died]).catch(() => browser.process()?.kill("SIGKILL"));
    },
  };
}

function findWindowed(): string {
  if (process.platform === "linux" && !process.env["DISPLAY"] && !process.env["WAYLAND_DISPLAY"]) {
    throw new Error("--headful needs a screen, and neither DISPLAY nor WAYLAND_DISPLAY is set.");
  }
  const named = process.env["CHROME_PATH"] || process.env["PUPPETEER_EXECUTABLE_PATH"];
  const mac = ["/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium"].find((path) => existsSync(path));
  const found = named || WITH_WINDOWS.map(findProgram).find(Boolean) || mac;
  if (!found) throw new Error("--headful needs a Chromium with windows. Install one (apt-get install chromium), or name it: CHROME_PATH=/path/to/chrome");
  return found;
}

/** Docker gives 64 MB, which a page of pictures fills; then Chromium crashes unless it is told. */
function hasSharedMemory(): boolean {
  if (process.platform !== "linux") return true;
  const size = / \/dev\/shm tmpfs [^\n]*?size=(\d+)k/.exec(readOrNothing("/proc/mounts"))?.[1];
  return size === undefined ? existsSync("/dev/shm") : Number(size) >= 512 * 1024;
}

interface Memory {
  processes: number;
  /** Pages that several processes share count in each of them. */
  residentBytes: number;
  /** They count once; 0 where the kernel does not tell. */
  proportionalBytes: number;
}

function watchMemory(pid: number): { describe(): string; stop(): void } {
  let most: Memory = { processes: 0, residentBytes: 0, proportionalBytes: 0 };
  const look = () => {
    if (process.platform !== "linux" || pid === 0) return;
    const found = memoryOf(pid);
    if (found.proportionalBytes > most.proportionalBytes || (found.proportionalBytes === 0 && found.residentBytes > most.residentBytes)) most = found;
  };
  const timer = setInterval(look, MEMORY_MS).unref();
  return {
    describe() {
      look(); // a short run ends before the first time
      if (most.processes === 0) return "not known on this system";
      const shared = most.proportionalBytes > 0 ? `${formatBytes(most.proportionalBytes)}, what is shared counted once; ` : "";
      return `at most ${shared}${formatBytes(most.residentBytes)} resident, summed over ${most.processes} processes`;
    },
    stop: () => clearInterval(timer),
  };
}

/** Of a process and all that come from it. */
function memoryOf(pid: number): Memory {
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const stat = readOrNothing(join("/proc", entry, "stat"));
    parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const family = new Set([pid]);
  for (let size = 0; size !== family.size;) {
    size = family.size;
    for (const [child, parent] of parents) if (family.has(parent)) family.add(child);
  }
  const memory: Memory = { processes: 0, residentBytes: 0, proportionalBytes: 0 };
  for (const member of family) {
    const residentPages = Number(readOrNothing(`/proc/${member}/statm`).split(" ")[1] ?? 0);
    if (residentPages === 0) continue;
    memory.processes++;
    memory.residentBytes += residentPages * PAGE_BYTES;
    memory.proportionalBytes += Number(/^Pss:\s+(\d+) kB/m.exec(readOrNothing(`/proc/${member}/smaps_rollup`))?.[1] ?? 0) * 1024;
  }
  return memory;
}

/** A process may end while it is looked at, and another user's may not be read. */
function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
