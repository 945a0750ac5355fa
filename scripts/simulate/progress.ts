import type { Receipts } from "./receipts.ts";
import { formatBytes, formatCount, formatMs, formatRate } from "./quantities.ts";
import { STEPS, type Tally } from "./tally.ts";

const LIVE_MS = 250, PLAIN_MS = 5_000;
/** Sorting a million values takes a tenth of a second. */
const PERCENTILES_MS = 2_000;
/** The rate shown is that of so long. */
const RATE_MS = 5_000;

export interface Output {
  write(text: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

/** One block that is drawn again in place, or a plain line now and then where nobody looks at a terminal. */
export function startProgress({ output, tally, receipts }: { output: Output; tally: Tally; receipts: Receipts }) {
  const isLive = output.isTTY === true;
  const samples: { atMs: number; received: number; bytes: number }[] = [{ atMs: 0, received: 0, bytes: 0 }];
  let drawnLines = 0;
  let percentiles = "", percentilesAt = -Infinity;
  let phase = "";

  function rates(): string {
    const now = { atMs: tally.elapsedMs(), received: tally.counts.received, bytes: tally.counts.bytes };
    samples.push(now);
    while (samples.length > 2 && now.atMs - samples[0]!.atMs > RATE_MS) samples.shift();
    const since = samples[0]!, seconds = Math.max((now.atMs - since.atMs) / 1000, 0.001);
    return `${formatRate((now.received - since.received) / seconds)} · ${formatBytes((now.bytes - since.bytes) / seconds)}/s`;
  }

  function p95(): string {
    if (performance.now() - percentilesAt > PERCENTILES_MS) {
      percentilesAt = performance.now();
      percentiles = STEPS.filter((step) => tally.steps[step].count() > 0).map((step) => `${step} ${formatMs(tally.steps[step].percentile(95))}`).join(" · ") || "–";
    }
    return percentiles;
  }

  function lines(): string[] {
    const { counts } = tally, { receipts: held, waiting } = receipts.counts;
    return [
      `  ${formatMs(tally.elapsedMs()).padStart(8)}  ${phase || `${formatCount(counts.activeUsers)} here · ${formatCount(counts.visits)} visits`}`,
      `  uploads   ${formatCount(counts.received)} received · ${formatCount(tally.underWay())} under way · ${rates()}`,
      `  errors    ${formatCount(counts.errors)}${tally.retries.size > 0 ? ` · ${formatCount([...tally.retries.values()].reduce((sum, times) => sum + times, 0))} came again` : ""}`,
      `  p95       ${p95()}`,
      `  receipts  ${formatCount(held - waiting)} of ${formatCount(held)} found`,
    ];
  }

  function erase(): void {
    if (drawnLines > 0) output.write(`\x1b[${drawnLines}A\x1b[0J`);
    drawnLines = 0;
  }

  function draw(): void {
    if (!isLive) return void output.write(`${lines().map((line) => line.trim().replaceAll(/\s+/g, " ")).join(" | ")}\n`);
    const drawn = lines().map((line) => line.slice(0, Math.max((output.columns ?? 80) - 1, 20)));
    erase();
    output.write(`${drawn.join("\n")}\n`);
    drawnLines = drawn.length;
  }

  const timer = setInterval(draw, isLive ? LIVE_MS : PLAIN_MS);
  return {
    /** A line of its own, which stays. */
    say(text: string) {
      erase();
      output.write(`${text}\n`);
      if (isLive) draw();
    },
    /** What is being done now, once it is no longer the load. */
    enter(what: string) {
      phase = what;
      if (isLive) draw();
      else output.write(`${what}\n`);
    },
    stop() {
      clearInterval(timer);
      erase();
    },
  };
}
