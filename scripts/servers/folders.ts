/** Where downloaded servers are kept, and how a folder there is made whole or not at all. */
import { accessSync, chmodSync, constants, mkdirSync, renameSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, dirname, join } from "node:path";

/** A set-up that is older than this was interrupted: nothing takes an hour. */
const ABANDONED_AFTER_MS = 3_600_000;

/**
 * The folder of downloaded servers: CONNECTSTORM_SERVERS_DIR, else a cache that all checkouts of this user share, else
 * inside the checkout. Root's cache is the system's, because Postgres runs as another user and cannot enter /root.
 */
export function findServersFolder(root: string, env: NodeJS.ProcessEnv = process.env): string {
  if (env["CONNECTSTORM_SERVERS_DIR"]) return env["CONNECTSTORM_SERVERS_DIR"];
  if (!env["XDG_CACHE_HOME"] && isRoot() && process.platform === "linux") return makeSystemCache();
  const userCache = env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  for (const folder of [join(userCache, "connectstorm", "servers"), join(root, ".data", "servers")]) {
    try {
      mkdirSync(folder, { recursive: true });
      accessSync(folder, constants.W_OK);
      return folder;
    } catch {
      continue; // Not ours to write: the next place.
    }
  }
  throw new Error(`Neither ${userCache} nor ${root} can be written; set CONNECTSTORM_SERVERS_DIR to a folder that can.`);
}

/** Root's cache, which every account may enter whatever the umask is. */
export function makeSystemCache(): string {
  const folder = "/var/cache/connectstorm/servers";
  mkdirSync(folder, { recursive: true });
  for (const path of [dirname(folder), folder]) chmodSync(path, 0o755);
  return folder;
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** True when the folder is there already. */
export async function isProvided(folder: string): Promise<boolean> {
  return stat(folder).then((found) => found.isDirectory(), () => false);
}

/**
 * Builds `folder` beside its place and moves it there in one step, so an interrupted set-up leaves no half server, and
 * of two set-ups at once one is used and the other thrown away.
 */
export async function provideFolder(folder: string, build: (temporary: string) => Promise<void>): Promise<void> {
  if (await isProvided(folder)) return;
  await mkdir(dirname(folder), { recursive: true });
  await removeAbandoned(dirname(folder));
  const temporary = await mkdtemp(join(dirname(folder), `.${basename(folder)}-`));
  try {
    await build(temporary);
    moveUnlessThere(temporary, folder);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function moveUnlessThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
}

async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const found = name.startsWith(".") && (await stat(path).catch(() => undefined));
    if (found && Date.now() - found.mtimeMs > ABANDONED_AFTER_MS) await rm(path, { recursive: true, force: true });
  }
}
