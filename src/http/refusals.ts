const REPORT_EVERY_MS = 60_000;

/**
 * Thousands of refusals, each with a line in the log, would only add to the load: one a minute tells of each kind, with their number.
 * @param report  told of the newest of them
 * @returns what to tell of each; whether it was reported
 */
export function createRefusals<Kind extends string, Detail = void>(report: (kind: Kind, refused: number, detail: Detail) => void): (kind: Kind, detail: Detail) => boolean {
  const refusals = new Map<Kind, { count: number; reportedAt: number }>();
  return (kind, detail) => {
    const now = performance.now();
    const noted = refusals.get(kind) ?? { count: 0, reportedAt: Number.NEGATIVE_INFINITY };
    refusals.set(kind, noted);
    noted.count++;
    if (now - noted.reportedAt < REPORT_EVERY_MS) return false;
    report(kind, noted.count, detail);
    [noted.count, noted.reportedAt] = [0, now];
    return true;
  };
}
