import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Backends } from "./backends.ts";
import type { RequestShape } from "./load/job.ts";
import { runScript, startProcess, type Started } from "./processes.ts";

const secret = randomBytes(32).toString("hex");

/** Our own processes, started as they are in production. Everything they keep lies under `folder`. */
export function createHub({ backends, pgUri, logs, profiles }: {
  backends: Backends;
  pgUri: string;
  logs: string;
  /** Where V8's CPU profiles go; undefined: none are made. */
  profiles?: string | undefined;
}) {
  const profiled = (name: string): string[] =>
    profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profiles}`, `--cpu-prof-name=${name}.cpuprofile`];


  function settings(folder: string): Record<string, string> {
    return {
      SECRET_KEY: secret,
      ACCESS: "open",
      LOG_LEVEL: "warn",
      HOST: "127.0.0.1",
      REDIS_URL: backends.redisUrl,
      REDIS_PREFIX: backends.prefix,
      PG_URI: pgUri,
      INBOX_DIR: join(folder, "inbox"),
      STORAGE_DIR: join(folder, "storage"),
    };
  }
  return {
    migrate: (): Promise<void> => runScript(scriptOf("migrate"), settings("")),
    /** @param load  what it is started for, in the name of its profile */
    startWeb: (folder: string, load: string): Promise<Started> =>
      startProcess({
        name: "web", script: scriptOf("web"), env: settings(folder), logs, flags: profiled(`web-${load}`), readyPath: "/ready",
      }),
    startWorker: (folder: string, load: string): Promise<Started> =>
      startProcess({ name: "worker", script: scriptOf("worker"), env: settings(folder), logs, flags: profiled(`worker-${load}`) }),
  };
}
export type Hub = ReturnType<typeof createHub>;

export const putShape = (sizeBytes: number): RequestShape => ({
  method: "PUT",
  path: "/api/upload/bench.bin",
  headers: { "Content-Type": "application/octet-stream" },
  body: "raw",
  sizeBytes,
});

export const postShape = (sizeBytes: number): RequestShape => ({
  method: "POST",
  path: "/api/upload",
  headers: {},
  body: "multipart",
  sizeBytes,
});

/** dist/bench/hub.js -> dist/main/<name>.js */
export function scriptOf(name: "web" | "worker" | "migrate"): string {
  return fileURLToPath(new URL(`../main/${name}.js`, import.meta.url));
}
