/** The numbers of a test run, from vitest's JSON report. */

export interface TestCounts {
  passed: number;
  failed: number;
  skipped: number;
}

interface VitestReport {
  numPassedTests?: number;
  numFailedTests?: number;
  numPendingTests?: number;
  numTodoTests?: number;
  testResults?: { name?: string; startTime?: number; endTime?: number; status: string; assertionResults: { status: string }[] }[];
}

/**
 * Counts what ran. A file that could not be loaded, an error outside any test and a crash of vitest itself fail too,
 * though no test of the report did: each counts as one failure, so that "0 failed" is never said of a failed run.
 */
export function countTests(reportText: string, exitCode: number | null): TestCounts {
  const report = parseReport(reportText);
  const brokenFiles = (report.testResults ?? []).filter(
    ({ status, assertionResults }) => status === "failed" && !assertionResults.some((test) => test.status === "failed"),
  ).length;
  const passed = report.numPassedTests ?? 0;
  const failed = (report.numFailedTests ?? 0) + brokenFiles;
  const skipped = (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0);
  return { passed, failed: failed === 0 && (exitCode !== 0 || passed === 0) ? 1 : failed, skipped };
}

/** How long the files of a folder took as a whole, in seconds: from the first of their tests to the last. Undefined: none of them ran. */
export function secondsOf(reportText: string, folder: string): number | undefined {
  const ran = (parseReport(reportText).testResults ?? []).filter(
    // A file whose tests are all skipped has the run's own beginning.
    ({ name = "", assertionResults }) => name.startsWith(`${folder}/`) && assertionResults.some(({ status }) => status === "passed" || status === "failed"));
  if (ran.length === 0) return undefined;
  return (Math.max(...ran.map(({ endTime = 0 }) => endTime)) - Math.min(...ran.map(({ startTime = 0 }) => startTime))) / 1000;
}

function parseReport(text: string): VitestReport {
  try {
    return JSON.parse(text) as VitestReport;
  } catch {
    return {}; // vitest crashed before it wrote its report; the exit code says so.
  }
}

export function formatCounts({ passed, failed, skipped }: TestCounts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
