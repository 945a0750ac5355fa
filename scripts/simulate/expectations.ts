import { formatBytes, formatCount, formatMs, formatRate, formatShare, readByteRate, readDuration, readRate } from "./quantities.ts";
import { STEPS, type Step } from "./tally.ts";

/** The figures of a run that can be expected to be something. */
export interface Figures {
  attempted: number;
  received: number;
  errors: number;
  /** Receipts whose upload was found in the ledger, or as a dead letter that says why. */
  accounted: number;
  receipts: number;
  late: number;
  arrivals: number;
  uploadsPerSecond: number;
  bytesPerSecond: number;
  percentile(step: Step, percent: number): number | undefined;
}

export interface Expectation {
  /** As it was written. */
  text: string;
  metric: string;
  operator: Operator;
  wanted: number;
  /** Undefined: there was nothing to measure. */
  actual(figures: Figures): number | undefined;
  format(value: number | undefined): string;
}

export interface Verdict {
  text: string;
  holds: boolean;
  actual: string;
}

const OPERATORS = {
  "<=": (actual: number, wanted: number) => actual <= wanted,
  ">=": (actual: number, wanted: number) => actual >= wanted,
  "<": (actual: number, wanted: number) => actual < wanted,
  ">": (actual: number, wanted: number) => actual > wanted,
  "=": (actual: number, wanted: number) => actual === wanted,
};
type Operator = keyof typeof OPERATORS;

export const GRAMMAR = `An expectation is a metric, an operator (< <= > >= =) and a value; several are separated by commas:
  p50 p95 p99          of uploads, from choosing to the receipt:  p95<2s
  page.p95 stored.p99  of the other steps (page, upload, stored): stored.p99<=10s
  errors late          a number or a share:                       errors=0  errors<1%
  accounted            receipts found again:                      accounted=100%
  throughput           uploads or bytes a second:                 throughput>=5/s  throughput>2MiB/s
Durations are in ms, s or m.`;

type Reading = Pick<Expectation, "wanted" | "actual" | "format">;

/** @throws Error with the grammar */
export function parseExpectations(text: string): Expectation[] {
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
  if (parts.length === 0) throw new Error(`--expect is empty.\n${GRAMMAR}`);
  return parts.map(parseExpectation);
}

function parseExpectation(text: string): Expectation {
  const [, metric = "", operator = "", value = ""] = /^([a-z0-9.]+)\s*(<=|>=|<|>|=)\s*([^<>=]+)$/i.exec(text) ?? [];
  if (metric === "") throw new Error(`--expect: "${text}" is not an expectation.\n${GRAMMAR}`);
  const reading = read(metric, value.trim());
  if (reading === "metric") throw new Error(`--expect: "${metric}", in "${text}", is no metric.\n${GRAMMAR}`);
  if (reading === "value") throw new Error(`--expect: "${value.trim()}" is no value for ${metric}.\n${GRAMMAR}`);
  return { text, metric, operator: operator as Operator, ...reading };
}

function read(metric: string, value: string): Reading | "metric" | "value" {
  const [, step, percent] = /^(?:(\w+)\.)?p(50|95|99)$/.exec(metric) ?? [];
  if (percent !== undefined) {
    if (step !== undefined && !STEPS.includes(step as Step)) return "metric";
    const wanted = readDuration(value);
    return wanted === undefined ? "value" : { wanted, actual: (figures) => figures.percentile((step ?? "upload") as Step, Number(percent)), format: formatMs };
  }
  if (metric === "errors") return readCount(value, (figures) => figures.errors, (figures) => figures.attempted);
  if (metric === "late") return readCount(value, (figures) => figures.late, (figures) => figures.arrivals);
  if (metric === "accounted") {
    const wanted = readPercent(value);
    return wanted === undefined ? "value" : { wanted, actual: (figures) => share(figures.accounted, figures.receipts), format: formatShare };
  }
  if (metric === "throughput") return readThroughput(value);
  return "metric";
}

/** A share of nothing is not known; a count of nothing is 0 all the same. */
function readCount(value: string, count: (figures: Figures) => number, all: (figures: Figures) => number): Reading | "value" {
  const percent = readPercent(value);
  if (percent !== undefined) return { wanted: percent, actual: (figures) => share(count(figures), all(figures)), format: formatShare };
  if (!/^\d+$/.test(value)) return "value";
  return { wanted: Number(value), actual: count, format: (found) => (found === undefined ? "–" : formatCount(found)) };
}

function readThroughput(value: string): Reading | "value" {
  const uploads = readRate(value);
  if (uploads !== undefined) return { wanted: uploads, actual: (figures) => figures.uploadsPerSecond, format: (found) => formatRate(found ?? 0) };
  const bytes = readByteRate(value);
  return bytes === undefined ? "value" : { wanted: bytes, actual: (figures) => figures.bytesPerSecond, format: (found) => `${formatBytes(found ?? 0)}/s` };
}

/** @returns a share: 1 is all */
function readPercent(value: string): number | undefined {
  const [, digits] = /^(\d+(?:\.\d+)?)\s*%$/.exec(value) ?? [];
  return digits === undefined ? undefined : Number(digits) / 100;
}

function share(part: number, whole: number): number | undefined {
  return whole === 0 ? undefined : part / whole;
}

/** What could not be measured was not seen to hold. */
export function judge(expectations: readonly Expectation[], figures: Figures): Verdict[] {
  return expectations.map(({ text, operator, wanted, actual, format }) => {
    const value = actual(figures);
    return { text, holds: value !== undefined && OPERATORS[operator](value, wanted), actual: value === undefined ? "nothing to measure" : format(value) };
  });
}
