/** Runs vitest against real servers and says how it went in one last line. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endPrograms, signalProcess } from "./servers/processes.ts";
import { startTestServers } from "./test-servers.ts";
import { countTests, formatCounts, secondsOf } from "./test-counts.ts";

export interface TestRun {
  /** How long all tests of faults together may take: it is said when they took longer, and with CI=true the run fails above one and a half times as long. Undefined: as long as they like. */
  faultsWithinSeconds?: number;
}

/** @param args  passed on to vitest @returns the exit code */
export async function runTests(root: string, args: string[], { faultsWithinSeconds }: TestRun = {}): Promise<number> {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      interrupted.abort();
      endPrograms();
    });
  }
  console.log("• Setting up the servers the tests need …");
  const servers = await startTestServers(root, (line) => console.log(line));
  try {
    if (interrupted.signal.aborted) return 1;
    warnOfMissing(servers.missing);
    return await runVitest(root, args, servers.env, interrupted.signal, faultsWithinSeconds);
  } finally {
    await servers.stop();
  }
}

function warnOfMissing(missing: string[]): void {
  if (missing.length === 0) return;
  const consequence = process.env["CI"] === "true" ? "The tests that need them will fail." : "The tests that need them will be skipped.";
  console.log(`\n${missing.length} server(s) missing, see above. ${consequence}\n`);
}

async function runVitest(root: string, args: string[], env: Record<string, string>, interrupted: AbortSignal, faultsWithinSeconds: number | undefined): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "connectstorm-report-"));
  const report = join(folder, "report.json");
  const vitest = spawn(process.execPath, [
    join(root, "node_modules/vitest/vitest.mjs"), "run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...args,
  ], { cwd: root, env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit"], detached: true });
  // A group of its own, so that an interrupt reaches every fork and the servers are stopped after them, not under them.
  interrupted.addEventListener("abort", () => vitest.pid && signalProcess(-vitest.pid, "SIGTERM"), { once: true });
  const exitCode = await new Promise<number | null>((resolve) => {
    vitest.once("error", () => resolve(null));
    vitest.once("close", (code) => resolve(code));
  });
  if (vitest.pid) signalProcess(-vitest.pid, "SIGKILL"); // What a crashed test run may have left.
  const reportText = await readFile(report, "utf8").catch(() => "");
  await rm(folder, { recursive: true, force: true });
  const counts = countTests(reportText, exitCode);
  if (faultsWithinSeconds !== undefined && tookTooLong(secondsOf(reportText, join(root, "test/faults")), faultsWithinSeconds)) counts.failed += 1;
  console.log(`\n${formatCounts(counts)}`);
  return counts.failed > 0 || counts.passed === 0 || exitCode !== 0 ? 1 : 0;
}

/** A machine may be slower than the one the limit is meant for. */
const SLOWER_MACHINES = 1.5;

/** Says how long the tests of faults took. @returns whether that is a failure */
function tookTooLong(seconds: number | undefined, mostSeconds: number): boolean {
  if (seconds === undefined) return false;
  const took = `The tests of faults took ${Math.round(seconds)} s as a whole`;
  const isFailure = seconds > mostSeconds * SLOWER_MACHINES && process.env["CI"] === "true";
  if (isFailure) console.log(`\n✘ ${took}, and with CI=true more than ${mostSeconds * SLOWER_MACHINES} s is a failure.`);
  else if (seconds > mostSeconds) console.log(`\n✘ ${took}: more than the ${mostSeconds} s that they may take on two cores.`);
  else console.log(`\n• ${took}; ${mostSeconds} s are what they may take.`);
  return isFailure;
}
