import { parseArgs } from "node:util";
import { GRAMMAR, parseExpectations, type Expectation } from "./expectations.ts";
import { readDuration, readRate, readSpan, type Span } from "./quantities.ts";

/** From the environment; see src/core/config.ts. */
export interface SimulationSettings {
  HOST: string;
  PORT: number;
  PRODUCER_USERS: number;
  PRODUCER_REPEATS: number;
  PRODUCER_HEADLESS: boolean;
}

export interface Options {
  driver: "browser" | "http";
  /** Without a slash at its end. */
  target: string;
  /** Of the closed model; with arrivals the most at once. */
  users: number;
  /** Undefined: until the time is over. */
  repeats: number | undefined;
  arrivalsPerSecond: number | undefined;
  durationMs: number | undefined;
  think: Span;
  /** Undefined: the sample files. */
  filesFolder: string | undefined;
  headless: boolean;
  javaScript: boolean;
  /** Connections of the HTTP driver. */
  sockets: number;
  seed: number;
  timeoutMs: number;
  patienceMs: number;
  expectations: Expectation[];
  /** Undefined: a file of .data/simulate named by the time. */
  reportFile: string | undefined;
}

/** A lost receipt is never right; everything else is for whoever measures to say. */
const DEFAULT_EXPECTATION = "accounted=100%";
const ARRIVALS_AT_ONCE = { browser: 20, http: 1000 };

export const USAGE = `npm run simulate -- [options]

A crowd uses a running ConnectStorm; every receipt is looked up until it is in the ledger.

  --target URL          the site (default: http://localhost:PORT, PORT being 8080 unless set)
  --driver browser      browser: people in Chromium, on the upload page. http: clients without one, for thousands

Who comes, as either of
  --users 5             so many people (PRODUCER_USERS)
  --repeats 2           visits of each (PRODUCER_REPEATS)
  --duration 30s        instead of repeats: go on for so long
  --think 1s..4s        between two visits of one person
or
  --arrivals 5/s        people arriving, each for one visit, whether the site keeps up or not
  --duration 30s        for so long
  --users 20            the most at once (default: 20 in browsers, 1000 by http); who waits for a place counts as late

What they do
  --files FOLDER        hand in files of this folder (default: the sample files)
  --headful             show the browser's windows (PRODUCER_HEADLESS=false)
  --no-javascript       use the plain form, as a browser without scripts does
  --sockets 256         connections of the http driver
  --seed N              play a run's choices again

What is looked for
  --timeout 60s         a page or an upload that takes longer is an error
  --patience 60s        receipts are given up when none became stored for so long
  --expect "accounted=100%"
  --report FILE         the HTML report (default: .data/simulate/<time>.html)

${GRAMMAR}

Exit code: 0 all expectations hold, 1 one does not, 2 wrong usage, no site or no Chromium, 130 after Ctrl-C.
Chromium: CHROME_PATH or PUPPETEER_EXECUTABLE_PATH, else the system's, else Debian's headless shell is fetched.
`;

/** @throws Error in words for whoever typed it */
export function parseOptions(args: readonly string[], settings: SimulationSettings): Options | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      target: { type: "string" }, driver: { type: "string" }, users: { type: "string" }, repeats: { type: "string" },
      arrivals: { type: "string" }, duration: { type: "string" }, think: { type: "string" }, files: { type: "string" },
      headful: { type: "boolean" }, "no-javascript": { type: "boolean" }, sockets: { type: "string" }, seed: { type: "string" },
      timeout: { type: "string" }, patience: { type: "string" }, expect: { type: "string" }, report: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return "help";
  const driver = values.driver ?? "browser";
  if (driver !== "browser" && driver !== "http") throw new Error(`--driver: ${driver} is neither browser nor http.`);
  const arrivalsPerSecond = values.arrivals === undefined ? undefined : readRate(values.arrivals);
  if (values.arrivals !== undefined && !(arrivalsPerSecond! > 0)) throw new Error(`--arrivals: ${values.arrivals} is not a rate like 5/s or 300/m.`);
  const durationMs = values.duration === undefined ? undefined : positiveDuration("duration", values.duration);
  if (arrivalsPerSecond !== undefined && durationMs === undefined) throw new Error("--arrivals needs --duration: for how long do they arrive?");
  if (arrivalsPerSecond !== undefined && values.repeats !== undefined) throw new Error("--repeats goes with --users: who arrives comes once.");
  if (arrivalsPerSecond !== undefined && values.think !== undefined) throw new Error("--think goes with --users: who arrives comes once.");
  for (const flag of ["headful", "no-javascript"] as const) {
    if (driver === "http" && values[flag] === true) throw new Error(`--${flag} goes with --driver browser.`);
  }
  if (driver === "browser" && values.sockets !== undefined) throw new Error("--sockets goes with --driver http.");
  const think = readSpan(values.think ?? "1s..4s");
  if (!think) throw new Error(`--think: ${values.think} is not a duration like 2s, or a span like 1s..4s.`);
  const usersByDefault = arrivalsPerSecond === undefined ? settings.PRODUCER_USERS : ARRIVALS_AT_ONCE[driver];
  return {
    driver, arrivalsPerSecond, durationMs, think,
    target: readTarget(values.target ?? defaultTarget(settings)),
    users: values.users === undefined ? usersByDefault : positive("users", values.users),
    repeats: values.repeats !== undefined ? positive("repeats", values.repeats) : durationMs === undefined ? settings.PRODUCER_REPEATS : undefined,
    filesFolder: values.files,
    headless: values.headful === true ? false : settings.PRODUCER_HEADLESS,
    javaScript: values["no-javascript"] !== true,
    sockets: positive("sockets", values.sockets ?? "256"),
    seed: values.seed === undefined ? Math.floor(Math.random() * 1_000_000) : readSeed(values.seed),
    timeoutMs: positiveDuration("timeout", values.timeout ?? "60s"),
    patienceMs: positiveDuration("patience", values.patience ?? "60s"),
    expectations: parseExpectations(values.expect ?? DEFAULT_EXPECTATION),
    reportFile: values.report,
  };
}

function defaultTarget({ HOST, PORT }: SimulationSettings): string {
  const host = ["127.0.0.1", "0.0.0.0", "::", "::1"].includes(HOST) ? "localhost" : HOST;
  return `http://${host.includes(":") ? `[${host}]` : host}:${PORT}`;
}

function readTarget(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol)) throw new Error(`--target: ${text} is not an address like http://localhost:8080.`);
  return (url.origin + url.pathname).replace(/\/+$/, "");
}

function readSeed(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`--seed: ${text} is not a whole number below 1,000,000,000.`);
  return Number(text);
}

function positive(name: string, text: string): number {
  if (!/^\d{1,7}$/.test(text) || Number(text) === 0) throw new Error(`--${name}: ${text} is not a whole number above zero.`);
  return Number(text);
}

function positiveDuration(name: string, text: string): number {
  const ms = readDuration(text);
  if (!(ms! > 0)) throw new Error(`--${name}: ${text} is not a duration like 500ms, 30s or 2m.`);
  return ms!;
}
