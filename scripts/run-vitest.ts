/** Runs vitest to its end and reads what it reports. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LOST_TEST_FILES, type LostTestFiles } from "./lost-test-files.ts";
import { signalProcess } from "./servers/processes.ts";

export interface VitestRun {
  root: string;
  /** Passed on to vitest. */
  args: string[];
  env: Record<string, string>;
  interrupted: AbortSignal;
}

export interface VitestOutcome {
  /** Of vitest's JSON reporter; empty: it crashed before it wrote it. */
  report: string;
  /** Null: it could not be started, or was killed. */
  exitCode: number | null;
  lost: LostTestFiles;
}

const REPORTER = fileURLToPath(new URL("./lost-test-files.js", import.meta.url));

export async function runVitest({ root, args, env, interrupted }: VitestRun): Promise<VitestOutcome> {
  const folder = await mkdtemp(join(tmpdir(), "connectstorm-report-"));
  const [report, lost] = [join(folder, "report.json"), join(folder, "lost.json")];
  const vitest = spawn(process.execPath, [
    join(root, "node_modules/vitest/vitest.mjs"), "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, `--reporter=${REPORTER}`, ...args,
  ], { cwd: root, env: { ...process.env, ...env, [LOST_TEST_FILES]: lost }, stdio: ["ignore", "inherit", "inherit"], detached: true });
  // A group of its own, so that an interrupt reaches every fork and the servers are stopped after them, not under them.
  interrupted.addEventListener("abort", () => vitest.pid && signalProcess(-vitest.pid, "SIGTERM"), { once: true });
  const exitCode = await new Promise<number | null>((resolve) => {
    vitest.once("error", () => resolve(null));
    vitest.once("close", (code) => resolve(code));
  });
  if (vitest.pid) signalProcess(-vitest.pid, "SIGKILL"); // What a crashed test run may have left.
  const outcome = {
    exitCode,
    report: await readFile(report, "utf8").catch(() => ""),
    lost: JSON.parse(await readFile(lost, "utf8").catch(() => `{"files":[],"deaths":[]}`)) as LostTestFiles,
  };
  await rm(folder, { recursive: true, force: true });
  return outcome;
}
