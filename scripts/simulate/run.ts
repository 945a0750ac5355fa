/** `npm run simulate`: a crowd uses a running site, and every receipt it gets is looked up. */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { randomFrom } from "../random.ts";
import { createAlbum, type Album } from "./album.ts";
import { openBrowserDriver } from "./drivers/browser.ts";
import type { Driver, Session } from "./drivers/driver.ts";
import { createHttpDriver } from "./drivers/http.ts";
import { chooseFiles, readFiles, type ChosenFile } from "./file-choice.ts";
import { createHttpClient } from "./http-client.ts";
import { listenForStop } from "./interruption.ts";
import { realClock, runArrivals, runFixedUsers } from "./load-models.ts";
import { parseOptions, USAGE, type Options, type SimulationSettings } from "./options.ts";
import { concludeRun, describeLoad, type Outcome } from "./outcome.ts";
import { startProgress } from "./progress.ts";
import { formatBytes, plural } from "./quantities.ts";
import { createReceipts, type Receipts } from "./receipts.ts";
import { formatReport } from "./report/report.ts";
import { formatOutcome } from "./summary.ts";
import { createTally, type Tally } from "./tally.ts";

export const HOLDS = 0, MISSED = 1, WRONG_USAGE = 2, INTERRUPTED = 130;
const REACH_MS = 5_000;
/** Each person has random numbers of their own; a prime, so that the seeds of two runs do not overlap soon. */
const SEED_STEP = 7919;

/** @returns the exit code */
export async function runSimulation(root: string, args: readonly string[], readSettings: () => SimulationSettings): Promise<number> {
  let options: Options, files: ChosenFile[];
  try {
    const parsed = parseOptions(args, readSettings());
    if (parsed === "help") {
      console.log(USAGE);
      return HOLDS;
    }
    options = parsed;
    files = await readFiles(options.filesFolder ?? join(root, "files"));
    await reach(options.target);
  } catch (error) {
    console.error(`✗ ${(error as Error).message}`);
    return WRONG_USAGE;
  }
  const reportFile = placeReport(root, options);
  let outcome: Outcome;
  try {
    outcome = await simulate(root, options, files, reportFile);
  } catch (error) {
    if (!(error instanceof CannotStart)) throw error;
    console.error(`✗ ${error.message}`);
    return WRONG_USAGE;
  }
  await mkdir(dirname(reportFile), { recursive: true });
  await writeFile(reportFile, formatReport(outcome));
  console.log(formatOutcome(outcome, relative(process.cwd(), reportFile)));
  if (outcome.stopped) return INTERRUPTED;
  return outcome.verdicts.every(({ holds }) => holds) ? HOLDS : MISSED;
}

/** No browser, or one that does not start: nothing has been measured. */
class CannotStart extends Error {
  override readonly name = "CannotStart";
}

async function simulate(root: string, options: Options, files: ChosenFile[], reportFile: string): Promise<Outcome> {
  const startedAt = new Date(), machine = describeMachine();
  const stop = listenForStop();
  const tally = createTally();
  const receipts = createReceipts({ target: options.target, tally, patienceMs: options.patienceMs });
  const album = createAlbum({ reportFile, elapsedMs: tally.elapsedMs });
  let driver: Driver | undefined;
  try {
    console.log(`• ${describeLoad(options)}, ${options.driver === "browser" ? "in Chromium" : "by HTTP"}, at ${options.target} (seed ${options.seed})`);
    driver = await openDriver(root, options, { tally, receipts, album, signal: stop.signal }).catch((error: Error) => {
      throw new CannotStart(error.message, { cause: error });
    });
    tally.begin();
    const progress = startProgress({ output: process.stdout, tally, receipts });
    try {
      await applyLoad(options, files, driver, tally, stop.signal);
      tally.end();
      progress.enter(stop.signal.aborted ? "stopped; a last look at the receipts" : "everybody is done; the receipts are looked up");
      const missing = await receipts.settle(stop.signal);
      const broken = receipts.broken();
      if (driver.photographReceipts && broken.length > 0 && !stop.signal.aborted) {
        progress.enter(`the receipts of ${plural(broken.length, "user")} are photographed`);
        await driver.photographReceipts(broken);
      }
      const facts: [string, string][] = [...await driver.facts(), ...machine, ["Files", describeFiles(files)]];
      return concludeRun({ startedAt, options, stopped: stop.signal.aborted, tally, receipts, missing, album, facts });
    } finally {
      progress.stop();
    }
  } finally {
    await driver?.close();
    await receipts.close();
    stop.close();
  }
}

async function openDriver(root: string, options: Options, books: { tally: Tally; receipts: Receipts; album: Album; signal: AbortSignal }): Promise<Driver> {
  const common = { target: options.target, timeoutMs: options.timeoutMs, ...books };
  if (options.driver === "http") return createHttpDriver({ ...common, sockets: options.sockets });
  return openBrowserDriver({ ...common, root, headless: options.headless, javaScript: options.javaScript, patienceMs: options.patienceMs });
}

async function applyLoad(options: Options, files: ChosenFile[], driver: Driver, tally: Tally, signal: AbortSignal): Promise<void> {
  const randomOf = (user: number) => randomFrom(options.seed + (user + 1) * SEED_STEP);
  const digits = String(options.users).length;
  /** @returns when the person has left, and everything of theirs is closed */
  const live = async (user: number, visits: (visit: (dueMs: number) => Promise<void>) => Promise<void>) => {
    const name = `simulated-${String(user + 1).padStart(digits, "0")}`, random = randomOf(user);
    const session = driver.openSession(name, random);
    tally.enter();
    try {
      await visits((dueMs) => visit(session, random, dueMs));
    } finally {
      tally.leave();
      await session.close();
    }
  };
  async function visit(session: Session, random: () => number, dueMs: number): Promise<void> {
    const chosen = chooseFiles(files, 1 + Math.floor(random() * driver.mostFiles), random);
    await session.visit(chosen, dueMs).catch((error: Error) => tally.failed({ kind: "unexpected", detail: error.message }));
  }

  const { arrivalsPerSecond, durationMs } = options;
  if (arrivalsPerSecond === undefined) {
    // Thinking is apart from choosing: how long a visit takes does not change what is chosen next.
    return runFixedUsers({ ...options, clock: realClock, signal, randomOf: (user) => randomFrom(options.seed - user - 1), live });
  }
  return runArrivals({
    perSecond: arrivalsPerSecond, durationMs: durationMs!, mostAtOnce: options.users, patienceMs: options.patienceMs,
    clock: realClock, signal, random: randomFrom(options.seed),
    visit: (arrival, dueMs) => live(arrival, (visitOnce) => visitOnce(dueMs)),
    started(latenessMs) {
      tally.counts.arrivals++;
      tally.lateness.add(latenessMs);
    },
    neverStarted(count) {
      tally.counts.arrivals += count;
      tally.attempt(count);
      tally.failed({ kind: "never started", detail: `no place became free within ${options.patienceMs / 1000} s of the last arrival` }, count);
    },
  });
}

/** @throws Error that says how to start one */
async function reach(target: string): Promise<void> {
  const client = createHttpClient({ target, sockets: 1, timeoutMs: REACH_MS });
  try {
    const answer = await client.ask({ method: "GET", path: "/health" }).catch((error: NodeJS.ErrnoException) => {
      throw new Error(`Nothing answers at ${target} (${error.code ?? error.message}).\nStart it in another terminal: npm start\nOr name another one: npm run simulate -- --target http://…`);
    });
    if (answer.status !== 200) throw new Error(`What answers at ${target} is no healthy ConnectStorm: /health says ${answer.status}.`);
  } finally {
    client.close();
  }
}

function placeReport(root: string, { reportFile }: Options): string {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return reportFile ? resolve(reportFile) : join(root, ".data", "simulate", `${stamp}.html`);
}

function describeMachine(): [string, string][] {
  const cpu = cpus()[0]?.model.replaceAll(/\s+/g, " ").trim() ?? "unknown";
  return [
    ["Machine", `${availableParallelism()} cores of ${cpu}, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${process.platform} ${process.arch}, load ${(loadavg()[0] ?? 0).toFixed(1)} before`],
    ["Node.js", process.version],
  ];
}

function describeFiles(files: readonly ChosenFile[]): string {
  const sizes = files.map(({ sizeBytes }) => sizeBytes);
  return `${files.length} to choose from, ${formatBytes(Math.min(...sizes))} to ${formatBytes(Math.max(...sizes))}`;
}
