import { readdirSync, readlinkSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { FAILURES, type FailureCode } from "../../../src/core/errors.ts";
import type { World } from "../../support/world.ts";
import { LIMITS, type FuzzRequest } from "./request.ts";

/** Sends fuzzed requests to a running site and judges its answers. Does not need the test runner. */

export interface Tally {
  requests: number;
  accepted: number;
  good: number;
  /** Status -> how many. */
  answers: Record<number, number>;
}

const DEADLINE_MS = 15_000;
const MANIFEST_BYTES = 16_384; // what a record of the inbox may have besides a small upload; larger blobs are files

interface Answer {
  status: number;
  headers: Record<string, string>;
  text: string;
}

/** What happened on one connection. */
interface Outcome {
  answers: Answer[];
  /** Bytes that are no answer. */
  rest: string;
  late: boolean;
}

export function createFuzzer(world: World) {
  const tally: Tally = { requests: 0, accepted: 0, good: 0, answers: {} };
  const errors: unknown[] = [];
  const log = world.context.log as unknown as { error: (...args: unknown[]) => void };
  const logged = log.error.bind(log);
  log.error = (...args) => {
    errors.push(args);
    logged(...args);
  };

  /** Sends them side by side. @returns what is wrong with the answers, or with what is left behind */
  async function run(requests: readonly FuzzRequest[]): Promise<string[]> {
    const accepted = new Map<string, string>(); // id -> sha256
    const judged = await Promise.all(requests.map(async (request) => judge(request, await send(world.url, request), accepted)));
    return [...judged.flat(), ...await leftBehind(accepted, requests), ...errors.splice(0).map((error) => `an error was logged: ${inspect(error)}`)];
  }

  function judge(request: FuzzRequest, { answers, rest, late }: Outcome, accepted: Map<string, string>): string[] {
    const wrong: string[] = [];
    const complain = (what: string) => void wrong.push(`${what}\n  ${request.what}\n  ${JSON.stringify(request.bytes.toString("latin1").slice(0, 600))}`);
    tally.requests++;
    if (request.good) tally.good++;
    if (late) complain(`no end within ${DEADLINE_MS} ms, after ${answers.map(({ status }) => status)}`);
    if (rest) complain(`bytes that are no answer: ${JSON.stringify(rest.slice(0, 200))}`);
    const final = answers.filter(({ status }) => status !== 100);
    if (final.length === 0 && !late && (request.whole || request.patient)) complain("closed without an answer");
    if (final.length > 1 && !request.more) complain(`${final.length} answers to one request: ${final.map(({ status }) => status)}`);
    for (const [index, answer] of final.entries()) {
      tally.answers[answer.status] = (tally.answers[answer.status] ?? 0) + 1;
      const fault = answer.status === 202 ? receiptFault(answer, index === 0 ? request.sha256 : undefined) : refusalFault(answer);
      if (fault) complain(fault);
      if (answer.status !== 202) continue;
      tally.accepted++;
      const { file_id, sha256 } = JSON.parse(answer.text) as { file_id: string; sha256: string };
      accepted.set(file_id, sha256);
    }
    if (request.good && final[0] && final[0].status !== 202) complain(`a good upload was answered ${final[0].status} ${final[0].text}`);
    return wrong;
  }

  /** The inbox has exactly what was accepted; it is settled, and then there is nothing. */
  async function leftBehind(accepted: Map<string, string>, requests: readonly FuzzRequest[]): Promise<string[]> {
    const wrong: string[] = [];
    const expected = [...accepted.keys()].sort();
    const waiting = await soon(async () => {
      const { ids, blobs, blobFiles, files } = await inbox();
      if (JSON.stringify(ids) !== JSON.stringify(expected)) {
        const more = await Promise.all(ids.filter((id) => !accepted.has(id)).map(async (id) => (await world.context.inbox.find(id))?.manifest.sha256));
        return `the inbox has ${ids.length} uploads for ${expected.length} that were accepted; the others are of ${requests.filter(({ sha256 }) => more.includes(sha256)).map(({ what }) => what).join("\n or ")}`;
      }
      const found = await Promise.all(ids.map(async (id) => (await world.context.inbox.find(id))?.manifest.blob_key));
      const named = found.filter((blobKey) => blobKey !== null).length;
      return blobs === named && files === blobFiles ? undefined : `the inbox has ${blobs} blobs where ${named} have a manifest, and ${files} files where ${blobFiles} have a record`;
    });
    if (waiting) wrong.push(waiting);
    await world.settleAll();
    const rows = await world.sql<{ id: string; sha256: string }>("select id, encode(sha256, 'hex') as sha256 from files where id = any($1)", [expected]);
    if (rows.length !== expected.length) wrong.push(`${rows.length} files of ${expected.length} that were accepted`);
    for (const { id, sha256 } of rows) if (accepted.get(id) !== sha256) wrong.push(`${id} was stored with other bytes`);
    const left = await soon(async () => {
      const { ids, blobs, files } = await inbox();
      return ids.length + blobs + files === 0 ? undefined : `${ids.length} uploads, ${blobs} blobs and ${files} files are left in the inbox`;
    });
    return left ? [...wrong, left] : wrong;
  }

  async function inbox() {
    const objects = await world.context.inbox.store.list("", { limit: 100_000 });
    const files = await readdir(join(world.config.INBOX_DIR, "files"), { recursive: true, withFileTypes: true }).catch(() => []);
    const ids = objects.filter(({ key }) => key.startsWith("manifests/")).map(({ key }) => key.slice("manifests/".length)).sort();
    const blobs = objects.filter(({ key }) => key.startsWith("blobs/"));
    const blobFiles = blobs.filter(({ sizeBytes }) => sizeBytes > LIMITS.smallBytes + MANIFEST_BYTES).length;
    return { ids, blobs: blobs.length, blobFiles, files: files.filter((entry) => entry.isFile()).length };
  }

  return { run, tally };
}

/** Open files and connections of this process, which is the server's, too: path or kind -> how many. */
export function descriptors(): { files: string[]; sockets: number } {
  const open = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // the one the folder was read with
    }
  });
  return { files: open.filter((path) => path.startsWith("/") && !path.startsWith("/dev/")).sort(), sockets: open.filter((path) => path.startsWith("socket:")).length };
}

/** Asked again for a while: undefined as soon as there is nothing wrong. */
async function soon(ask: () => Promise<string | undefined>): Promise<string | undefined> {
  for (let turn = 0; ; turn++) {
    const wrong = await ask();
    if (wrong === undefined || turn === 200) return wrong;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * One connection. A request that has its end is answered while the connection is open; then it is closed, and whatever
 * still comes is looked at. One that has not is ended by the client, or waited for.
 */
function send(url: string, request: FuzzRequest): Promise<Outcome> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    let received: Buffer = Buffer.alloc(0);
    let late = false;
    const deadline = setTimeout(() => {
      late = true;
      socket.destroy();
    }, DEADLINE_MS);
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (answersIn(received).answers.some(({ status }) => status !== 100)) socket.end();
    });
    socket.on("error", () => {}); // a reset: what came before it counts
    socket.on("end", () => socket.end());
    socket.on("close", () => {
      clearTimeout(deadline);
      resolve({ ...answersIn(received), late });
    });
    socket.on("connect", () => void write());

    async function write() {
      const cuts = [...new Set([0, ...request.cuts, request.bytes.length])].sort((a, b) => a - b);
      for (let index = 1; index < cuts.length && !socket.destroyed && socket.writable; index++) {
        socket.write(request.bytes.subarray(cuts[index - 1], cuts[index]));
        await new Promise(setImmediate);
      }
      if (!request.whole && !request.patient) socket.end();
    }
  });
}

function answersIn(bytes: Buffer): { answers: Answer[]; rest: string } {
  const answers: Answer[] = [];
  for (let at = 0; ;) {
    const headEnd = bytes.indexOf("\r\n\r\n", at);
    const [statusLine = "", ...lines] = bytes.toString("latin1", at, Math.max(at, headEnd)).split("\r\n");
    const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1]);
    const end = headEnd + 4 + Number(headers["content-length"] ?? (status === 100 ? 0 : Number.NaN));
    if (headEnd < 0 || Number.isNaN(end) || end > bytes.length) return { answers, rest: bytes.toString("latin1", at) };
    answers.push({ status, headers, text: bytes.toString("utf8", headEnd + 4, end) });
    at = end;
  }
}

function refusalFault({ status, headers, text }: Answer): string | undefined {
  if (status < 400 || status > 499) return `answered ${status} ${text}`;
  if (headers["content-type"] !== "application/json; charset=utf-8") return `${status} of the type ${headers["content-type"]}`;
  const { error, code, request_id, ...more } = parsed(text);
  if (!(String(code) in FAILURES) || FAILURES[code as FailureCode].status !== status) return `${status} with the code ${String(code)}`;
  if (typeof error !== "string" || (request_id ?? null) !== (headers["x-request-id"] ?? null) || Object.keys(more).length > 0) return `a refusal of another shape: ${text}`;
  return undefined;
}

function receiptFault({ headers, text }: Answer, sha256: string | undefined): string | undefined {
  const receipt = parsed(text);
  if (headers["content-type"] !== "application/json; charset=utf-8" || receipt.success !== true || typeof receipt.file_id !== "string") return `a receipt of another shape: ${text}`;
  if (sha256 !== undefined && receipt.sha256 !== sha256) return `accepted ${String(receipt.size)} bytes that are not the file's`;
  return undefined;
}

function parsed(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

function inspect(error: unknown): string {
  return JSON.stringify(error, (_key, value: unknown) => (value instanceof Error ? { name: value.name, message: value.message, stack: value.stack?.split("\n").slice(0, 4) } : value)).slice(0, 2_000);
}
