import { existsSync, readdirSync, rmSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { measureCounts } from "./counts.ts";
import { measureEvents } from "./events.ts";
import { createHub, scriptOf } from "./hub.ts";
import { measureLatency } from "./latency.ts";
import { openGenerator } from "./load/generator.ts";
import { describeMachine } from "./machine.ts";
import type { ServerProcess } from "../scripts/servers/processes.ts";
import { parseOptions, PROGRAMS, USAGE, type Options, type Program } from "./options.ts";
import { readProfiles } from "./profile.ts";
import { writeReport } from "./report.ts";
import { writeResults, type Results } from "./results.ts";
import { createRungs, type Rung } from "./rungs.ts";
import { startBackends, stopAll, type StartedBackends } from "./start-backends.ts";
import { measureUploads } from "./uploads.ts";
import { measureWorker, type WorkerTools } from "./worker.ts";

const FOLDER_NAME = "connectstorm-bench-"; // and the process id: two runs on one disk do not meet

/** `npm run bench`: starts what is needed, measures, prints, writes. @returns the exit code */
export async function runBench(root: string, args: readonly string[]): Promise<number> {
  const given = parseOptions(args);
  if (given === "help") {
    console.log(USAGE);
    return 0;
  }
  const outer = resolve(root, given.dir);
  const options = { ...given, dir: join(outer, `${FOLDER_NAME}${process.pid}`) };
  await mkdir(options.dir, { recursive: true });
  removeAbandoned(outer);
  const servers: ServerProcess[] = [];
  let interrupted = false;
  const stop = (): void => {
    interrupted = true;
    console.error("\nStopping …");
    void stopAll(servers).finally(() => {
      rmSync(options.dir, { recursive: true, force: true });
      process.exit(130); // web, worker and the generator end with us
    });
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  try {
    const started = await startBackends(root, options.dir, servers);
    const generator = openGenerator();
    try {
      const { versions } = started.backends;
      const results: Results = { machine: describeMachine({ root, args, ...versions, dir: options.dir }), problems: [] };
      const report = await measureAll(results, options, started, generator);
      await publish(root, outer, given, results, report);
      return results.problems.length === 0 ? 0 : 1;
    } finally {
      await generator.close();
      await started.backends.close();
    }
  } catch (error) {
    // Whatever fails because its server was stopped is not worth a word.
    if (interrupted) return new Promise(() => {});
    throw error;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
    if (!interrupted) {
      await stopAll(servers);
      await rm(options.dir, { recursive: true, force: true });
    }
  }
}

async function measureAll(
  results: Results, options: Options, { backends, redisBenchmark }: StartedBackends, generator: ReturnType<typeof openGenerator>,
): Promise<string> {
  const logs = join(options.dir, "logs");
  const profiles = options.profile ? join(options.dir, "profiles") : undefined;
  const missing = (["web", "worker", "migrate"] as const).filter((name) => !existsSync(scriptOf(name)));
  const say = (line: string): void => console.error(`  ${line}`);
  const problem = (text: string): void => {
    results.problems.push(text);
    say(`PROBLEM: ${text}`);
  };
  const tools: WorkerTools = { backends, redisBenchmark, generator, options, logs, profiles, say, problem };

  const parts: Record<Program, () => Promise<void>> = {
    async uploads() {
      const pgUri = await backends.createDatabase("uploads");
      const hub = createHub({ backends, pgUri, logs, profiles });
      if (missing.length === 0) await hub.migrate();
      const rungs = choose(createRungs({ hub, backends, logs }), options.rungs)
        .filter((rung) => missing.length === 0 || !rung.name.startsWith("ours"));
      results.uploads = await measureUploads({ rungs, generator, backends, options, say });
      await backends.dropDatabase(pgUri);
    },
    async worker() {
      results.worker = await measureWorker(tools);
    },
    async latency() {
      results.latency = await measureLatency(tools);
    },
    async counts() {
      results.counts = await measureCounts(tools);
    },
    async events() {
      results.events = await measureEvents(tools);
    },
  };
  if (missing.length > 0) say(`dist/main lacks ${missing.join(", ")}: only the others' upload servers are measured`);
  for (const program of PROGRAMS) {
    if (!options.only.includes(program) || (missing.length > 0 && program !== "uploads")) continue;
    console.error(`${program}:`);
    await parts[program]().catch((error: Error) => problem(`${program}: ${error.message}`));
  }
  if (profiles !== undefined) results.profiles = await readProfiles(profiles);
  return writeReport(results);
}

function choose(rungs: Rung[], names: readonly string[]): Rung[] {
  const unknown = names.find((name) => !rungs.some((rung) => rung.name === name));
  if (unknown !== undefined) throw new Error(`--rungs: ${unknown} is none of ${rungs.map((rung) => rung.name).join(", ")}`);
  return names.length === 0 ? rungs : rungs.filter((rung) => names.includes(rung.name));
}

/** Quick and profiled runs prove nothing about speed, so they do not lie among the results that are kept. */
async function publish(root: string, outer: string, given: Options, results: Results, report: string): Promise<void> {
  const { date, commit } = results.machine;
  const part = given.only.length < PROGRAMS.length ? `-${given.only.join("-")}` : "";
  const folder = given.quick || given.profile ? join(outer, "results") : join(root, "bench/results");
  const path = await writeResults(folder, `${date.slice(0, 10)}-${commit.replace("+", "-changed")}${part}`, results, report);
  console.log(`\n${report}\nWritten to ${path}.md and .json`);
}

/** What a run left that was killed. */
function removeAbandoned(outer: string): void {
  for (const name of readdirSync(outer)) {
    const pid = name.startsWith(FOLDER_NAME) ? Number(name.slice(FOLDER_NAME.length)) : Number.NaN;
    if (Number.isInteger(pid) && pid !== process.pid && !isAlive(pid)) rmSync(join(outer, name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
