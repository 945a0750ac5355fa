/** Runs vitest against real servers and says how it went in one last line. */
import { join, relative } from "node:path";
import { runVitest, type VitestRun } from "./run-vitest.ts";
import { endPrograms } from "./servers/processes.ts";
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
    return await runAndCount({ root, args, env: servers.env, interrupted: interrupted.signal }, faultsWithinSeconds);
  } finally {
    await servers.stop();
  }
}

function warnOfMissing(missing: string[]): void {
  if (missing.length === 0) return;
  const consequence = process.env["CI"] === "true" ? "The tests that need them will fail." : "The tests that need them will be skipped.";
  console.log(`\n${missing.length} server(s) missing, see above. ${consequence}\n`);
}

/** More of them are no chance: something is wrong with the code or the machine. */
const MOST_LOST_FILES = 2;

/** The last line on the terminal is the number of tests. @returns the exit code */
export async function runAndCount(run: VitestRun, faultsWithinSeconds: number | undefined): Promise<number> {
  const first = await runVitest(run);
  const { files, deaths } = first.lost;
  if (deaths.length > 0 || files.length > 0) console.log(`\n✘ Processes of tests that died: ${deaths.join(", ") || "SIGTERM, or exit code 0"}.`);
  // Seen in CI: the process of one of 158 files died while it loaded. Whatever dies of a test, or after one is known, is a failure.
  const isAgain = run.args.length === 0 && files.length > 0 && files.length <= MOST_LOST_FILES && !run.interrupted.aborted;
  const counts = countTests(first.report, isAgain ? 0 : first.exitCode);
  if (isAgain) {
    const names = files.map((file) => relative(run.root, file));
    console.log(`\n• Once more, as its process died before its first test: ${names.join(", ")}\n`);
    const second = await runVitest({ ...run, args: names });
    const more = countTests(second.report, second.exitCode);
    counts.passed += more.passed;
    counts.failed += more.failed;
    counts.skipped += more.skipped;
  }
  if (faultsWithinSeconds !== undefined && tookTooLong(secondsOf(first.report, join(run.root, "test/faults")), faultsWithinSeconds)) counts.failed += 1;
  console.log(`\n${formatCounts(counts)}`);
  return counts.failed > 0 || counts.passed === 0 ? 1 : 0;
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
