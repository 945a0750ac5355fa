/**
 * A real S3 for the tests: Ceph's gateway on a store in memory, from Debian 13's packages, run through their own
 * loader so that any Debian can. Nothing outlives it: stopping is killing.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatCephConfiguration } from "./ceph-configuration.ts";
import { DEBIAN_13, openDebian13, readDebianMachine } from "./debian-packages.ts";
import { isProvided, provideFolder } from "./folders.ts";
import { findFreePort } from "./ports.ts";
import { runProgram, spawnServer, waitUntilReady, type ServerProcess } from "./processes.ts";

const PACKAGES = ["ceph-mon", "ceph-osd", "radosgw", "ceph-common", "ceph-base"];
const LOADERS: Record<string, string> = { amd64: "ld-linux-x86-64.so.2", arm64: "ld-linux-aarch64.so.1" };

export interface CephPrograms {
  loader: string;
  libraries: string;
  libraryPath: string;
  binaries: string;
}

export interface S3Server {
  endpoint: string;
  accessKeyId: string;
  secretAccessKey: string;
  region: string;
  stop(): Promise<void>;
}

/** @throws Error that says why it cannot be had */
export async function provideCeph(serversFolder: string): Promise<CephPrograms> {
  const machine = await readDebianMachine();
  if (machine.missing) throw new Error(explainMissing(machine.missing));
  const folder = join(serversFolder, `ceph-${DEBIAN_13}-${machine.architecture}`);
  if (!(await isProvided(folder))) {
    await provideFolder(folder, async (temporary) => {
      const release = await openDebian13(serversFolder);
      // Of two hundred dependencies only the libraries matter to a program that is started by hand.
      await release.unpack(PACKAGES, temporary, (name) => /^(lib(?!python|perl)|zlib1g$)/.test(name));
    }).catch((error: Error) => { throw new Error(explainMissing(error.message)); });
  }
  const libraries = join(folder, "usr/lib", machine.triplet);
  return {
    loader: join(libraries, LOADERS[machine.architecture] ?? ""), libraries, binaries: join(folder, "usr/bin"),
    libraryPath: [libraries, join(libraries, "ceph"), join(libraries, "systemd")].join(":"),
  };
}

function explainMissing(reason: string): string {
  return `Ceph, the tests' S3 server, could not be fetched. ${reason}\n`
    + "Name another S3 server: TEST_S3_ENDPOINT, TEST_S3_ACCESS_KEY_ID, TEST_S3_SECRET_ACCESS_KEY, TEST_S3_REGION.";
}

/** Starts all three processes and makes a user; the endpoint answers when this returns. */
export async function startCeph(programs: CephPrograms, folder: string): Promise<S3Server> {
  for (const name of ["mon", "osd", "run", "log"]) await mkdir(join(folder, name), { recursive: true });
  const gatewayPort = await findFreePort([], 2);
  const monitorPort = gatewayPort + 1;
  const clusterId = randomUUID();
  const configuration = join(folder, "ceph.conf");
  await writeFile(configuration, formatCephConfiguration({
    folder, libraries: programs.libraries, clusterId, gatewayPort, monitorPort,
  }));
  const started: ServerProcess[] = [];
  const command = (name: string, args: string[]) => ["--argv0", name, "--library-path", programs.libraryPath, join(programs.binaries, name), ...args];
  const run = (name: string, ...args: string[]) => runProgram(programs.loader, command(name, args), { cwd: folder });
  const start = (name: string, ...args: string[]) => {
    const server = spawnServer({
      name, command: programs.loader, args: command(name, ["-c", configuration, ...args, "-f"]), cwd: folder,
      logFile: join(folder, "log", `${name}.out`), stopSignal: "SIGKILL",
    });
    started.push(server);
    return server;
  };
  const stop = async () => { await Promise.all(started.map((server) => server.stop(0))); };

  try {
    await makeCluster(run, { folder, clusterId, monitorPort, configuration });
    start("ceph-mon", "-i", "a");
    await run("ceph-osd", "-c", configuration, "-i", "0", "--mkfs", "--osd-uuid", randomUUID());
    const store = start("ceph-osd", "-i", "0");
    await waitUntilReady(store, async () => (await readFile(join(folder, "log/osd.0.log"), "utf8")).includes("booting -> active"), 30_000);
    const endpoint = `http://127.0.0.1:${gatewayPort}`;
    const gateway = start("radosgw", "-n", "client.rgw");
    await waitUntilReady(gateway, async () => (await fetch(endpoint)).status < 500, 60_000, { pauseMs: 50 });
    const keys = { accessKeyId: "TESTKEY", secretAccessKey: "TESTSECRET" };
    await run("radosgw-admin", "-c", configuration, "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test",
      `--access-key=${keys.accessKeyId}`, `--secret-key=${keys.secretAccessKey}`);
    return { endpoint, ...keys, region: "us-east-1", stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function makeCluster(
  run: (name: string, ...args: string[]) => Promise<string>,
  { folder, clusterId, monitorPort, configuration }: { folder: string; clusterId: string; monitorPort: number; configuration: string },
): Promise<void> {
  const keyring = join(folder, "keyring"), monitorMap = join(folder, "monmap"), storeMap = join(folder, "osdmap");
  const allowAll = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"];
  await run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "client.admin", ...allowAll, "--cap", "mgr", "allow *");
  for (const name of ["client.rgw", "mon.", "osd.0"]) await run("ceph-authtool", keyring, "--gen-key", "-n", name, ...allowAll);
  await run("monmaptool", "-c", configuration, "--create", "--fsid", clusterId, "--addv", "a", `[v2:127.0.0.1:${monitorPort}]`, monitorMap);
  await run("osdmaptool", "-c", configuration, "--createsimple", "1", storeMap, "--with-default-pool", "--clobber");
  await run("ceph-mon", "-c", configuration, "--mkfs", "-i", "a", "--monmap", monitorMap, "--osdmap", storeMap, "--keyring", keyring);
}
