/**
 * Debian packages without root and without touching the machine's apt: apt runs with folders of its own, downloads and
 * verifies as always, and the packages are only unpacked, never installed.
 */
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { formatSources, otherSuite, ownSources, readAptSources, type AptSource } from "./apt-sources.ts";
import { isRoot } from "./folders.ts";
import { findProgram, runProgram } from "./processes.ts";

export interface PackageSource {
  /** The release's codename and the architecture, e.g. `bookworm-amd64`: part of the folder names in the cache. */
  label: string;
  /**
   * Unpacks packages and what they depend on into `folder`.
   * @param keep  chooses among the dependencies by name
   */
  unpack(packages: string[], folder: string, keep?: (name: string) => boolean): Promise<void>;
}

/** The release whose PostgreSQL 17 has TimescaleDB and whose Ceph speaks the newest S3 checksums. */
export const DEBIAN_13 = "trixie";

/** What this machine has to offer; a full sentence as `missing` when it has no apt or no mirror. */
export interface DebianMachine {
  missing?: string;
  codename: string;
  architecture: string;
  /** GNU triplet, the name of library folders. */
  triplet: string;
}

const TRIPLETS: Record<string, string> = { amd64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" };

export async function readDebianMachine(): Promise<DebianMachine> {
  const nothing = { codename: "", architecture: "", triplet: "" };
  if (!findProgram("apt-get") || !findProgram("dpkg-deb")) {
    return { ...nothing, missing: "This machine has no apt, so Debian's packages cannot be had." };
  }
  const architecture = (await runProgram("dpkg", ["--print-architecture"])).trim();
  const triplet = TRIPLETS[architecture];
  if (!triplet) return { ...nothing, missing: `The ${architecture} architecture was never tried.` };
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const codename = /^VERSION_CODENAME="?([\w.-]+)/m.exec(release)?.[1] ?? "";
  return { codename, architecture, triplet };
}

/** Every set-up of this process shares one index of a release, because fetching it is most of the work. */
const opened = new Map<string, Promise<PackageSource>>();
const folders: string[] = [];

/** Packages of the machine's own release; what is installed already is not fetched again. */
export function openOwnRelease(serversFolder: string): Promise<PackageSource> {
  return openOnce("own", serversFolder, async (machine) => ownSources(await readAptSources(), machine.codename));
}

/** Packages of Debian 13 with all they depend on, to be run through their own loader. */
export function openDebian13(serversFolder: string): Promise<PackageSource> {
  return openOnce(DEBIAN_13, serversFolder, async (machine) => {
    const source = otherSuite(await readAptSources(), machine.codename, DEBIAN_13);
    return source ? [source] : [];
  });
}

/** Removes the indexes fetched by this process; the unpacked packages stay. */
export async function closePackageSources(): Promise<void> {
  opened.clear();
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
}

function openOnce(
  release: string, serversFolder: string, findSources: (machine: DebianMachine) => Promise<AptSource[]>,
): Promise<PackageSource> {
  const before = opened.get(release);
  if (before) return before;
  const opening = readDebianMachine().then(async (machine) => {
    if (machine.missing) throw new Error(machine.missing);
    const sources = await findSources(machine);
    if (sources.length === 0) throw new Error(`apt's sources name no mirror that carries ${machine.codename}.`);
    return openPackageSource(release, serversFolder, machine, sources);
  });
  opened.set(release, opening);
  return opening;
}

async function openPackageSource(
  release: string, serversFolder: string, machine: DebianMachine, sources: AptSource[],
): Promise<PackageSource> {
  await mkdir(serversFolder, { recursive: true });
  const state = await mkdtemp(join(serversFolder, ".apt-"));
  folders.push(state);
  await mkdir(join(state, "lists", "partial"), { recursive: true });
  await mkdir(join(state, "cache", "archives", "partial"), { recursive: true });
  await writeFile(join(state, "mirror.sources"), formatSources(sources));
  await writeFile(join(state, "apt.conf"), formatConfiguration(state, machine.architecture));
  if (release === "own") await copyFile("/var/lib/dpkg/status", join(state, "status"));
  else await writeFile(join(state, "status"), "");
  const apt = (args: string[], cwd = state) =>
    runProgram("apt-get", ["-q", "-y", "-c", join(state, "apt.conf"), ...args], { cwd, env: { ...process.env, LC_ALL: "C" } });
  // apt-get exits 0 when an index could not be fetched at all, unless told otherwise.
  await apt(["-o", "APT::Update::Error-Mode=any", "update"]).catch((error: Error) => {
    throw new Error(`Debian's package index could not be fetched from the mirror in apt's sources: ${error.message}`);
  });
  return {
    label: `${release === "own" ? machine.codename : release}-${machine.architecture}`,
    async unpack(packages, folder, keep = () => true) {
      const list = () => apt(["install", "--print-uris", ...packages]);
      const listed = await list().catch(async () => {
        // Where the installed packages do not fit together apt plans nothing: then as if none were.
        await writeFile(join(state, "status"), "");
        return list();
      });
      const chosen = parseDownloads(listed).filter(({ name }) => packages.includes(name) || keep(name));
      if (chosen.length === 0) throw new Error(`apt offers nothing to unpack for ${packages.join(", ")}.`);
      const debs = join(folder, ".debs");
      await mkdir(debs, { recursive: true });
      await apt(["download", ...chosen.map(({ name, version }) => `${name}=${version}`)], debs);
      await unpackAll(debs, folder);
      await rm(debs, { recursive: true });
    },
  };
}

/** Reads `'address' name_version_architecture.deb size hash` lines. */
export function parseDownloads(printedUris: string): { name: string; version: string }[] {
  return [...printedUris.matchAll(/^'\S+' ([^_\s]+)_([^_\s]+)_\S+\.deb \d+/gm)].map((line) => ({
    name: line[1] ?? "", version: decodeURIComponent(line[2] ?? ""),
  }));
}

async function unpackAll(debs: string, folder: string): Promise<void> {
  const waiting = await readdir(debs);
  const unpackNext = async (): Promise<void> => {
    for (let deb = waiting.pop(); deb; deb = waiting.pop()) await runProgram("dpkg-deb", ["-x", join(debs, deb), folder]);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, unpackNext));
}

/** The machine's settings (proxies, certificates) stay; what would act on the machine itself is cleared. */
function formatConfiguration(state: string, architecture: string): string {
  return `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg;
#clear APT::Architectures;
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Install-Recommends "false";
APT::Install-Suggests "false";
${isRoot() ? 'APT::Sandbox::User "root";' : ""}
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "${state}";
Dir::State::lists "lists";
Dir::State::status "${join(state, "status")}";
Dir::Cache "${join(state, "cache")}";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "${state}";
Dir::Etc::sourcelist "${join(state, "mirror.sources")}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
`;
}
