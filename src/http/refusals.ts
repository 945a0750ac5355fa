const REPORT_EVERY_MS = 60_000;

/** Thousands of refusals, each with a line in the log, would only add to the load: one a minute tells of each code, with their number. */
export function createRefusals<Code extends string>(report: (code: Code, refused: number) => void): (code: Code) => void {
  const refusals = new Map<Code, { count: number; reportedAt: number }>();
  return (code) => {
    const now = performance.now();
    const noted = refusals.get(code) ?? { count: 0, reportedAt: Number.NEGATIVE_INFINITY };
    refusals.set(code, noted);
    noted.count++;
    if (now - noted.reportedAt < REPORT_EVERY_MS) return;
    report(code, noted.count);
    [noted.count, noted.reportedAt] = [0, now];
  };
}
