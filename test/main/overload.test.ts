import { expect, test } from "vitest";
import { connectRaw } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { useProcesses } from "../support/processes.ts";
import type { Program } from "../support/program.ts";

const UPLOADS = 300;
const AT_ONCE = 200;
const ADDRESSES = 8; // one alone gets half of the places
const ROUNDS = 5;
const LONGEST_STALL_MS = 200;
const BODIES = [1_024, 102_400, 1_024, 102_400, 2_097_152].map((size) => Buffer.alloc(size, "overload ")); // with more large ones there is not the memory for 200

/**
 * Says the longest stall since it was last asked; /health tells that of a whole minute. Off each stall goes what the main
 * thread waited for a CPU in that very stall: with six times the work that the machine can do it was 250 ms and more.
 */
const WATCH = `import { readFileSync } from "node:fs";
  const readyMs = () => { try { return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[1]) / 1e6; } catch { return 0; } };
  const ownMs = () => performance.now() - readyMs();
  let [longest, last] = [0, ownMs()];
  setInterval(() => { const now = ownMs(); longest = Math.max(longest, now - last - 10); last = now; }, 10).unref();
  process.on("SIGUSR2", () => { console.log("longest stall: " + longest.toFixed(1) + " ms."); longest = 0; });`;
const SAID = /^longest stall: ([\d.]+) ms\.$/gm;
const STALL = 'process.on("SIGWINCH", () => { for (const until = ownMs() + 300; ownMs() < until;); });';

const { startWeb } = useProcesses();
type Web = Program & { url: string };
const startWith = (module: string) => startWeb({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(module)}` });

test("200 uploads are under way at once, others are told to come again, and nobody waits for the event loop as long as 200 ms", async () => {
  const web = await startWith(WATCH);
  const stallsMs: number[] = [];
  // Others may keep the machine busy: a stall that is the process's own doing is there in every round.
  while (stallsMs.length < ROUNDS && !stallsMs.some((stallMs) => stallMs < LONGEST_STALL_MS)) {
    await longestStallMs(web); // what was before
    await overload(web);
    stallsMs.push(await longestStallMs(web));
  }
  expect(Math.min(...stallsMs), `longest stall of each round, in ms: ${stallsMs}`).toBeLessThan(LONGEST_STALL_MS);
  await eventually(async () => (await fetch(`${web.url}/api/upload/after.txt`, { method: "PUT", body: "after" })).status, 202);
}, 120_000);

test("a web process that keeps its event loop for 300 ms amid them would be seen, and tells it", async () => {
  const web = await startWith(WATCH + STALL);
  await longestStallMs(web);
  await overload(web, () => web.kill("SIGWINCH"));
  expect(await longestStallMs(web)).toBeGreaterThan(LONGEST_STALL_MS);
  const { event_loop_delay_ms: told } = (await (await fetch(`${web.url}/health`)).json()) as { event_loop_delay_ms: { max: number } };
  expect(told.max).toBeGreaterThan(LONGEST_STALL_MS);
}, 60_000);

/** Whoever is let in is told to go on and waits until all have an answer; then all bodies come at once. */
async function overload(web: Web, amid = () => {}): Promise<void> {
  const connections = Array.from({ length: UPLOADS }, (_, index) => connectRaw(web.url, { from: `127.0.0.${1 + (index % ADDRESSES)}` }));
  const bodyOf = (index: number) => BODIES[index % BODIES.length]!;
  const answers = await Promise.all(connections.map(async (connection, index) => {
    await connection.send(`PUT /api/upload/${index}.bin HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${bodyOf(index).length}\r\n\r\n`);
    return connection.answer();
  }));
  const letIn = connections.flatMap((connection, index) => (answers[index]!.status === 100 ? { connection, body: bodyOf(index) } : []));
  expect(letIn.length).toBeGreaterThanOrEqual(AT_ONCE);
  const refused = answers.filter(({ status }) => status !== 100).map(({ status, text }) => `${status} ${(JSON.parse(text) as { code: string }).code}`);
  expect(new Set(refused)).toEqual(new Set(["503 TOO_BUSY"]));
  const accepted = letIn.map(async ({ connection, body }) => {
    void connection.send(body);
    return (await connection.answer()).status;
  });
  amid();
  expect(new Set(await Promise.all(accepted))).toEqual(new Set([202]));
  for (const connection of connections) connection.close();
}

async function longestStallMs(web: Web): Promise<number> {
  const told = [...web.output().matchAll(SAID)].length;
  web.kill("SIGUSR2");
  await eventually(() => [...web.output().matchAll(SAID)].length, told + 1);
  return Number([...web.output().matchAll(SAID)].at(-1)![1]);
}
