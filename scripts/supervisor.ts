/** Keeps one process alive: starts it, writes its pid down, starts it again when it dies, and stops it when told. */
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { createBackoff } from "./backoff.ts";
import { writePid } from "./servers/pid-files.ts";
import type { ServerProcess } from "./servers/processes.ts";

export interface Supervised {
  name: string;
  /** Resolves when the process does its work, so a failure to start is told from a later death. */
  start(stopping: AbortSignal): Promise<ServerProcess>;
  pidFile: string;
  /** How long it may take to end by itself. */
  graceMs: number;
}

export interface Supervisor {
  stop(): Promise<void>;
  /** Ends it at once, and without another start. */
  kill(): void;
}

/** @throws when the very first start fails: then something is wrong that trying again does not heal */
export async function supervise(program: Supervised, report: (line: string) => void): Promise<Supervisor> {
  const stopping = new AbortController();
  const backoff = createBackoff();
  let current: ServerProcess | undefined;

  async function launch(): Promise<ServerProcess> {
    const server = await program.start(stopping.signal);
    current = server;
    await writePid(program.pidFile, server.pid);
    return server;
  }

  async function keepAlive(first: ServerProcess): Promise<void> {
    let server: ServerProcess | undefined = first;
    let startedAt = Date.now();
    while (!stopping.signal.aborted) {
      let reason = "";
      if (server) reason = `stopped unexpectedly (${await server.exited})`;
      if (stopping.signal.aborted) return;
      const waitMs = backoff.next(Date.now() - startedAt);
      report(`${program.name} ${reason || "could not be started"}; starting it again in ${waitMs / 1000} s`);
      await sleep(waitMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return;
      startedAt = Date.now();
      server = await launch().catch((error: Error) => { report(error.message); return undefined; });
      if (server) report(`${program.name} runs again (pid ${server.pid})`);
    }
  }

  const kept = keepAlive(await launch());
  return {
    async stop() {
      stopping.abort();
      await current?.stop(program.graceMs);
      await kept;
      // A start that was under way when the order came.
      await current?.stop(program.graceMs);
      await rm(program.pidFile, { force: true });
    },
    kill() {
      stopping.abort();
      current?.kill();
    },
  };
}
