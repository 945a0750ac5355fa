import { formatBytes, formatCount } from "../quantities.ts";
import type { Distribution } from "../statistics.ts";
import { STEPS, type Step, type Tally } from "../tally.ts";

/** The plot's own units; it is stretched to whatever room there is, and its lines are not. */
const WIDTH = 1000, HEIGHT = 100;
/** Finer than any screen shows. */
const MOST_POINTS = 160;

interface Curve {
  /** In the plot's own units. */
  path: string;
  of: Step | "bad";
  dashed?: boolean;
}

interface Chart {
  title: string;
  /** For those who do not see it. */
  description: string;
  bars?: string;
  curves: readonly Curve[];
  legend: readonly [label: string, of: Step | "bad", shape: "bar" | "line" | "dashed"][];
  /** From the bottom up. */
  yLabels: readonly string[];
  xLabels: readonly AxisLabel[];
}

/** @property at  0 is the left end, 1 the right one */
interface AxisLabel {
  at: number;
  text: string;
}

/** Uploads a second over the run, errors on top of them, and how fast the ledger took them. */
export function drawRates({ timeline }: Tally): string {
  const stretches = timeline.stretches(), seconds = timeline.stretchMs() / 1000;
  const most = niceCeiling(Math.max(...stretches.map(({ received, errors, stored }) => Math.max(received + errors, stored)), 1) / seconds);
  const height = (count: number) => (count / seconds / most) * HEIGHT;
  const slot = WIDTH / stretches.length, gap = Math.min(slot * 0.2, 6);
  const bars = stretches.map(({ received, errors, bytes }, index) => {
    const at = (from: number, to: number, kind: string, title: string) => (to <= 0 ? "" : (
      `<rect class="${kind}" x="${round(index * slot + gap / 2)}" y="${round(HEIGHT - from - to)}" width="${round(slot - gap)}" height="${round(to)}"><title>${title}</title></rect>`
    ));
    return at(0, height(received), "bar", `${formatCount(received)} uploads, ${formatBytes(bytes)}`) + at(height(received), height(errors), "bar bad", `${formatCount(errors)} errors`);
  }).join("");
  const stored = stretches.map(({ stored: count }, index) => [(index + 0.5) * slot, HEIGHT - height(count)] as const);
  return draw({
    title: "Uploads a second", bars, curves: [{ path: pathOf(stored), of: "stored" }],
    description: `Uploads received a second over the run, at most ${most} on the scale.`,
    legend: [["received", "upload", "bar"], ["found in the ledger", "stored", "line"], ["errors", "bad", "bar"]],
    yLabels: [0, most / 2, most].map((value) => trim(value)), xLabels: timeLabels(stretches.length * timeline.stretchMs()),
  });
}

/** How long uploads took over the run. */
export function drawWaits({ timeline }: Tally): string {
  const stretches = timeline.stretches(), slot = WIDTH / stretches.length;
  const most = niceMs(Math.max(...stretches.map(({ uploadMs }) => uploadMs.percentile(95) ?? 0), 1));
  const curve = (percent: number) => pathOf(stretches.flatMap(({ uploadMs }, index) => {
    const ms = uploadMs.percentile(percent);
    return ms === undefined ? [] : [[(index + 0.5) * slot, HEIGHT - (ms / most) * HEIGHT] as const];
  }));
  return draw({
    title: "How long an upload took", curves: [{ path: curve(95), of: "upload" }, { path: curve(50), of: "upload", dashed: true }],
    description: "Median and 95th percentile of the time from choosing a file to its receipt, over the run.",
    legend: [["p95", "upload", "line"], ["p50", "upload", "dashed"]],
    yLabels: [0, most / 2, most].map(formatAxisMs), xLabels: timeLabels(stretches.length * timeline.stretchMs()),
  });
}

/** The share that waited no longer than so long, step by step, on a scale of tens. */
export function drawDistributions({ steps }: Tally): string {
  const shown = STEPS.filter((step) => steps[step].count() > 0);
  const smallest = Math.min(...shown.map((step) => Math.max(steps[step].percentile(0) ?? 1, 1)));
  const largest = Math.max(...shown.map((step) => steps[step].largest() ?? 1), 10);
  const from = Math.floor(Math.log10(smallest)), to = Math.max(Math.ceil(Math.log10(largest)), from + 1);
  const x = (ms: number) => ((Math.log10(Math.max(ms, 10 ** from)) - from) / (to - from)) * WIDTH;
  return draw({
    title: "Who waited how long",
    description: "For each step the share of all that took no longer than the time on the scale.",
    curves: shown.map((step) => ({ path: cumulative(steps[step], x), of: step })),
    legend: shown.map((step) => [step, step, "line"]),
    yLabels: ["0 %", "50 %", "100 %"], xLabels: Array.from({ length: to - from + 1 }, (_, index) => ({ at: index / (to - from), text: formatAxisMs(10 ** (from + index)) })),
  });
}

function cumulative(distribution: Distribution, x: (ms: number) => number): string {
  const total = distribution.count(), every = total / MOST_POINTS;
  const points: [number, number][] = [];
  let passed = 0, drawn = -Infinity;
  for (const [ms, times] of distribution.values()) {
    if (points.length === 0) points.push([x(ms), HEIGHT]);
    passed += times;
    if (passed - drawn < every && passed < total) continue;
    points.push([x(ms), HEIGHT - (passed / total) * HEIGHT]);
    drawn = passed;
  }
  return pathOf(points);
}

function draw({ title, description, bars = "", curves, legend, yLabels, xLabels }: Chart): string {
  const lines = yLabels.map((_, index) => {
    const y = round(HEIGHT - (index / (yLabels.length - 1)) * HEIGHT);
    return `<line class="grid" x1="0" x2="${WIDTH}" y1="${y}" y2="${y}"/>`;
  });
  return `<figure class="card chart">
<figcaption class="legend"><b>${title}</b>${legend.map(([label, of, shape]) => `<span class="of-${of}"><i class="${shape === "bar" ? "" : shape === "line" ? "line" : "line dashed"}"></i>${label}</span>`).join("")}</figcaption>
<div class="y" aria-hidden="true">${yLabels.map((label) => `<span>${label}</span>`).join("")}</div>
<svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${description}">${lines.join("")}${bars}${curves.map(({ path, of, dashed }) => `<path class="curve of-${of}${dashed ? " dashed" : ""}" d="${path}"/>`).join("")}</svg>
<div class="x" aria-hidden="true">${xLabels.map(({ at, text }) => `<span style="left:${round(at * 100)}%">${text}</span>`).join("")}</div>
</figure>`;
}

function pathOf(points: readonly (readonly [number, number])[]): string {
  // One point alone is no line: a short one shows where it is.
  const drawn = points.length === 1 ? [[points[0]![0] - 6, points[0]![1]] as const, [points[0]![0] + 6, points[0]![1]] as const] : points;
  return drawn.map(([x, y], index) => `${index === 0 ? "M" : "L"}${round(x)} ${round(y)}`).join("");
}

/** Three to six round times. */
function timeLabels(totalMs: number): AxisLabel[] {
  const step = niceMs(totalMs / 5);
  return Array.from({ length: Math.floor(totalMs / step) + 1 }, (_, index) => ({ at: (index * step) / totalMs, text: formatAxisMs(index * step) }));
}

/** 1, 2 or 5 times a power of ten. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10);
}

/** The same above a minute, in minutes. */
function niceMs(ms: number): number {
  return ms <= 60_000 ? niceCeiling(ms) : niceCeiling(ms / 60_000) * 60_000;
}

function formatAxisMs(ms: number): string {
  if (ms === 0) return "0";
  if (ms < 1000) return `${trim(ms)} ms`;
  return ms < 120_000 ? `${trim(ms / 1000)} s` : ms < 7_200_000 ? `${trim(ms / 60_000)} min` : `${trim(ms / 3_600_000)} h`;
}

function trim(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
