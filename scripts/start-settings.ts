/** What `npm start` reads from the environment, and the folders and addresses it decides on. */
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findFreePort, isPortFree } from "./servers/ports.ts";

const DEFAULT_PORT = 8080;
/** Next to the usual ports, which a server of the machine's own may have. */
const PREFERRED_PORTS = { redis: 6380, postgres: 5433 };

export interface StartSettings {
  root: string;
  host: string;
  port: number;
  /** Where a browser on this machine finds the site. */
  siteUrl: string;
  redisUrl: string | undefined;
  pgUri: string | undefined;
  storageFolder: string;
  inboxFolder: string;
  runsWorkerInWeb: boolean;
  /** How long web and worker may take to finish what they have in hand. */
  shutdownMs: number;
}

/** @throws Error when PORT is no port or taken */
export async function readStartSettings(root: string, env: NodeJS.ProcessEnv = process.env): Promise<StartSettings> {
  if (existsSync(join(root, ".env"))) process.loadEnvFile(join(root, ".env"));
  const host = env["HOST"] || env["FLASK_HOST"] || "127.0.0.1";
  const asked = env["PORT"] || env["FLASK_PORT"] || String(DEFAULT_PORT);
  if (!/^\d{1,5}$/.test(asked) || Number(asked) > 65_535) throw new Error(`PORT is ${asked}, which is not a port between 0 and 65535.`);
  const port = Number(asked) || (await findFreePort());
  if (!(await isPortFree(port, host))) throw new Error(explainTaken(port, host));
  const reachable = ["0.0.0.0", "::", "127.0.0.1"].includes(host) ? "127.0.0.1" : host;
  return {
    root, host, port, siteUrl: `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`,
    redisUrl: env["REDIS_URL"] || undefined, pgUri: env["PG_URI"] || env["DATABASE_URL"] || undefined,
    storageFolder: env["STORAGE_DIR"] || join(root, ".data", "storage"), inboxFolder: env["INBOX_DIR"] || join(root, ".data", "inbox"),
    runsWorkerInWeb: ["true", "1"].includes(env["RUN_WORKER_IN_WEB"] ?? ""),
    shutdownMs: (Number(env["SHUTDOWN_SECONDS"]) || 30) * 1000,
  };
}

function explainTaken(port: number, host: string): string {
  const free = port < 65_535 ? port + 1 : DEFAULT_PORT;
  return port < 1024 && process.getuid?.() !== 0
    ? `Port ${port} on ${host} cannot be opened: ports below 1024 belong to root, or something listens there.\nChoose another: PORT=${DEFAULT_PORT} npm start`
    : `Port ${port} on ${host} is in use by another program (to see which: ss -ltnp 'sport = :${port}').\nChoose another: PORT=${free} npm start`;
}

/** The same ports at every start, as long as they are free, so that a client's settings stay true. */
export async function chooseServerPorts(dataFolder: string): Promise<{ redis: number; postgres: number }> {
  const file = join(dataFolder, "ports.json");
  const before = await readFile(file, "utf8").then((text) => JSON.parse(text) as Partial<typeof PREFERRED_PORTS>, () => ({}) as Partial<typeof PREFERRED_PORTS>);
  const ports = {
    redis: await findFreePort([before.redis ?? PREFERRED_PORTS.redis, PREFERRED_PORTS.redis]),
    postgres: await findFreePort([before.postgres ?? PREFERRED_PORTS.postgres, PREFERRED_PORTS.postgres]),
  };
  await writeFile(file, `${JSON.stringify(ports)}\n`);
  return ports;
}
