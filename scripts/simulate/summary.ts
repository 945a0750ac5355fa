import { describeLoad, type Outcome } from "./outcome.ts";
import { formatBytes, formatCount, formatMs, formatRate, formatSetting, formatShare, plural } from "./quantities.ts";
import { ERROR_KINDS } from "./tally.ts";

/** More of them are in the report. */
const MOST_MISSING_SHOWN = 20;
const MOST_DETAILS_SHOWN = 5;

/** What the terminal says at the end. */
export function formatOutcome(outcome: Outcome, reportFile: string): string {
  const { options, tally, figures, receipts } = outcome;
  const lines = [
    "",
    `${outcome.stopped ? "Stopped. So far: " : ""}${describeLoad(options)}, in ${formatMs(outcome.elapsedMs)}`,
    "",
    "            count       p50       p95       p99   slowest",
    ...outcome.steps.map(({ step, count, p50, p95, p99, largest }) => (
      `  ${step.padEnd(7)}${formatCount(count).padStart(8)}${[p50, p95, p99, largest].map((ms) => formatMs(ms).padStart(10)).join("")}`
    )),
    "",
    `  Uploads    ${formatCount(figures.received)} received of ${formatCount(figures.attempted)} · ${formatRate(figures.uploadsPerSecond)} · ${formatBytes(figures.bytesPerSecond)}/s · ${formatBytes(tally.counts.bytes)}`,
    ...(tally.underWay() > 0 ? [`             ${plural(tally.underWay(), "upload was", "uploads were")} under way as it was stopped`] : []),
    ...(outcome.late ? [`  Late       ${formatCount(outcome.late.count)} of ${formatCount(figures.arrivals)} arrivals had to wait for a place, at most ${formatMs(outcome.late.largest)}`] : []),
    ...[...tally.retries].map(([why, times]) => `  Came again ${formatCount(times)} × ${why}`),
    ...formatErrors(outcome),
    "",
    ...describeReceipts(outcome).map((line, index) => `  ${index === 0 ? "Receipts   " : "           "}${line}`),
    ...receipts.named.slice(0, MOST_MISSING_SHOWN).map(({ fileId, name, user, lastStatus }) => `             ${fileId}  ${lastStatus}  (${name}, ${user})`),
    ...(receipts.missing > MOST_MISSING_SHOWN ? [`             and ${formatCount(receipts.missing - MOST_MISSING_SHOWN)} more; see the report`] : []),
    "",
    ...outcome.facts.map(([name, value]) => `  ${name.padEnd(10)} ${value}`),
    "",
    ...outcome.verdicts.map(({ text, holds, actual }) => `  ${holds ? "✓" : "✗"} ${text.padEnd(20)} ${actual}`),
    "",
    `  Report     ${reportFile}`,
    `  The same choices again: --seed ${options.seed}`,
  ];
  return lines.join("\n");
}

function formatErrors({ tally, figures }: Outcome): string[] {
  if (figures.errors === 0) return ["  Errors     none"];
  return [
    `  Errors     ${formatCount(figures.errors)}`,
    ...[...tally.errors].flatMap(([kind, { count, details }]) => [
      `             ${kind}: ${formatCount(count)} (${ERROR_KINDS[kind]})`,
      ...[...details].slice(0, MOST_DETAILS_SHOWN).map(([detail, times]) => `               ${formatCount(times)} × ${detail}`),
    ]),
  ];
}

export function describeReceipts({ receipts, figures, options, stopped }: Outcome): string[] {
  if (receipts.receipts === 0) return ["none, so there is nothing to account for"];
  const found = receipts.failed === 0 ? "in the ledger, with the bytes that were sent" : "in the ledger or failed";
  const share = formatShare(figures.accounted / receipts.receipts);
  const lines = [`accounted for: ${share}. ${formatCount(figures.accounted)} of ${formatCount(receipts.receipts)} are ${found}`];
  if (receipts.failed > 0) {
    lines.push(`failed: ${formatCount(receipts.failed)}`, ...[...receipts.failedReasons].map(([reason, times]) => `  ${formatCount(times)} × ${reason}`));
  }
  if (receipts.wrong > 0) lines.push(`in the ledger with other bytes: ${formatCount(receipts.wrong)}`);
  if (receipts.missing > 0) {
    const waited = stopped ? "not found before the run was stopped" : `none of which became stored within ${formatSetting(options.patienceMs)}`;
    lines.push(`missing: ${formatCount(receipts.missing)}, ${waited}${receipts.missing > receipts.named.length ? `; the first ${receipts.named.length}:` : ":"}`);
  }
  return lines;
}
