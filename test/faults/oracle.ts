import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Acknowledgement, Crowd } from "./crowd.ts";
import { findGrowth, footprintOf, type Footprint } from "../support/footprint.ts";
import { NODE_WARNS, type Program } from "../support/program.ts";
import type { Hub } from "./hub.ts";

/** Who wrote down what was acknowledged: a crowd, or a client of the test's own. */
export type Clients = Pick<Crowd, "acknowledged" | "refusals" | "unknown">;

export interface Expectation {
  crowds: Clients[];
  /** Ids of uploads that were meant to become dead letters. */
  deadLetters?: string[];
  /** How long the system may take to come to rest once it is whole again. Two reconcile periods (docs/reliability.md) are 4 s here; the rest is for a busy machine. */
  withinMs?: number;
  /** How long its processes may hold on to what clients that have just left, or a repair of ours, took of them. */
  releasedWithinMs?: number;
  /** Bytes of nobody, left by a process that was killed, may wait for the sweeper still: it takes its time. */
  orphansLater?: boolean;
  /** Every byte is fetched and hashed, or of so many uploads only. */
  mostFetched?: number;
}

export interface Verdict {
  acknowledged: number;
  lost: number;
  doubled: number;
  /** Seconds from the moment it was asked until all was at rest. */
  settledAfterSeconds: number;
}

/**
 * THE oracle, for whatever happened before: every upload that was acknowledged has exactly one row in the ledger and its
 * bytes in storage, or is a dead letter that was meant to be one; nothing else is left anywhere; nothing died but what
 * was killed.
 * @throws NotKept, with all that is wrong and the verdict; any other Error where it could not be judged at all
 */
export async function judge(hub: Hub, { crowds, deadLetters = [], withinMs = 45_000, releasedWithinMs = 10_000, orphansLater = false, mostFetched = Infinity }: Expectation): Promise<Verdict> {
  const startedAt = Date.now();
  const all = remember(hub, crowds);
  const promised = new Map(all.flatMap((crowd) => [...crowd.acknowledged]));
  const unknown = all.reduce((sum, crowd) => sum + crowd.unknown(), 0);
  const wrong: string[] = crowds.flatMap((crowd) => crowd.refusals());

  const look = async () => {
    const waiting = await findLeft(hub, promised, deadLetters);
    return waiting.length > 0 || orphansLater ? waiting : findOrphans(hub, deadLetters);
  };
  let left = await look();
  while (left.length > 0 && Date.now() - startedAt < withinMs) {
    await pause(POLL_MS);
    left = await look();
  }
  wrong.push(...left);
  const settledAfterSeconds = (Date.now() - startedAt) / 1000;

  const rows = await countRows(hub);
  const dead = new Set(deadLetters);
  const lost = [...promised.keys()].filter((id) => !rows.has(id) && !dead.has(id));
  const doubled = [...rows].filter(([, count]) => count !== 1).map(([id]) => id);
  const strangers = [...rows.keys()].filter((id) => !promised.has(id)).length;
  if (lost.length > 0) wrong.push(`LOST: ${lost.length} acknowledged uploads have no ledger row, such as ${lost[0]}`);
  if (doubled.length > 0) wrong.push(`DOUBLED: ${doubled.length} uploads have more than one ledger row, such as ${doubled[0]}`);
  if (strangers > unknown) wrong.push(`${strangers} ledger rows belong to no upload that was acknowledged; ${unknown} may`);
  wrong.push(...(await compareTables(hub)));
  wrong.push(...(await compareBytes(hub, crowds.flatMap((crowd) => [...crowd.acknowledged.values()]).filter(({ id }) => !dead.has(id)), mostFetched)));
  wrong.push(...(await findExcess(hub, releasedWithinMs)));
  wrong.push(...hub.slots.flatMap((slot) => slot.deaths()));
  wrong.push(...hub.slots.flatMap((slot) => slot.output().split("\n").filter(tellsOfBug).slice(0, 3)));
  const verdict = { acknowledged: promised.size, lost: lost.length, doubled: doubled.length, settledAfterSeconds };
  if (wrong.length > 0) throw new NotKept(verdict, wrong);
  takeBaseline(hub, { anew: false });
  return verdict;
}

/** The promise was not kept, or something else is not as it has to be. */
export class NotKept extends Error {
  readonly verdict: Verdict;
  readonly wrong: readonly string[];
  constructor(verdict: Verdict, wrong: readonly string[]) {
    super(`after ${verdict.acknowledged} acknowledged uploads:\n- ${wrong.join("\n- ")}`);
    this.verdict = verdict;
    this.wrong = wrong;
  }
}

/** Whatever was thrown that is no dependency's doing: most jobs log it with its name only. And what Node warns of. */
export function tellsOfBug(line: string): boolean {
  if (NODE_WARNS.test(line)) return true;
  if (!/"level":"(error|fatal)"/.test(line)) return false;
  try {
    const { level, msg, err } = JSON.parse(line) as { level: string; msg: string; err?: { name?: string } };
    return level === "fatal" || msg.endsWith("a bug") || (err !== undefined && err.name !== "Unavailable");
  } catch {
    return false; // half a line of a process that was killed
  }
}

const POLL_MS = 100;
const crowdsOf = new WeakMap<Hub, Clients[]>();

/** A system that is judged again has the uploads of all its crowds, not of the last one only. */
function remember(hub: Hub, crowds: Clients[]): Clients[] {
  const all = [...new Set([...(crowdsOf.get(hub) ?? []), ...crowds])];
  crowdsOf.set(hub, all);
  return all;
}

/** What is not at rest yet. */
async function findLeft(hub: Hub, promised: ReadonlyMap<string, Acknowledgement>, deadLetters: string[]): Promise<string[]> {
  try {
    const left: string[] = [];
    const [{ stored = 0 } = {}] = await hub.sql<{ stored: number }>("select count(*)::int as stored from files");
    if (stored < promised.size - deadLetters.length) left.push(`${stored} of ${promised.size} uploads are files`);
    const dead = await hub.sql<{ id: string; code: string }>("select upload_id as id, code from dead_letters");
    const unmeant = dead.filter(({ id }) => !deadLetters.includes(id));
    if (unmeant.length > 0) left.push(`${unmeant.length} dead letters, such as ${unmeant[0]!.id} (${unmeant[0]!.code})`);
    if (dead.length - unmeant.length < deadLetters.length) left.push(`${dead.length} of ${deadLetters.length} dead letters`);
    const length = await hub.redis.xlen(hub.stream);
    if (length > 0) left.push(`${length} entries in the stream`);
    const pending = await hub.redis.xpending(hub.stream, "settlers").catch(() => [0]) as [number];
    if (pending[0] > 0) left.push(`${pending[0]} pending entries`);
    if (left.length > 0) return left; // what follows reads all that waits: not while there is much of it
    const manifests = (await hub.inboxKeys()).filter((key) => key.startsWith("manifests/") && !deadLetters.includes(key.slice("manifests/".length)));
    if (manifests.length > 0) left.push(`${manifests.length} manifests in the inbox`);
    left.push(...(await askAudit(hub)));
    return left;
  } catch (error) {
    return [`cannot be judged: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/** The system's own word, which counts acknowledgements by itself. */
async function askAudit(hub: Hub): Promise<string[]> {
  const audit = await (await fetch(`${hub.urls[0]}/api/audit`)).json() as { balanced: boolean; in_flight: { files: number } };
  return audit.balanced && audit.in_flight.files === 0 ? [] : [`the audit says ${JSON.stringify(audit)}`];
}

/** Blobs without a manifest, and files of the disk stores that no record names: what a killed process left must be swept. */
async function findOrphans(hub: Hub, deadLetters: string[]): Promise<string[]> {
  const left: string[] = [];
  const blobs = (await hub.inboxKeys()).filter((key) => key.startsWith("blobs/"));
  if (blobs.length > deadLetters.length) left.push(`${blobs.length} blobs in the inbox`);
  const unfinished = (await hub.bucket?.unfinished()) ?? [];
  if (unfinished.length > 0) left.push(`${unfinished.length} unfinished multipart uploads in the bucket`);
  for (const { name, folder, known } of await hub.diskStores()) {
    const files = (await readdir(join(folder, "files"), { recursive: true, withFileTypes: true }).catch(() => [])).filter((entry) => entry.isFile());
    if (files.length !== known) left.push(`${files.length} files in the ${name}, of which its index knows ${known}`);
  }
  return left;
}

async function countRows(hub: Hub): Promise<Map<string, number>> {
  const rows = await hub.sql<{ id: string; count: number }>("select file_id as id, count(*)::int as count from file_events where event = 'stored' group by file_id");
  return new Map(rows.map(({ id, count }) => [id, count]));
}

/** Files, ledger and the kept totals say the same. */
async function compareTables(hub: Hub): Promise<string[]> {
  const [found] = await hub.sql<Record<"files" | "rows" | "records" | "different" | "attempts", number>>(
    `select (select count(*)::int from files) as files, (select count(*)::int from file_events where event = 'stored') as rows,
       (select records::int from ledger_totals) - (select count(*)::int from file_events where event <> 'stored') as records,
       (select count(*)::int from files f join file_events e on e.file_id = f.id and e.event = 'stored'
        where (f.sha256, f.size_bytes, f.event_time) is distinct from (e.sha256, e.size_bytes, e.event_time)) as different,
       (select count(*)::int from settle_attempts) as attempts`);
  const { files, rows, records, different, attempts } = found!;
  const wrong: string[] = [];
  if (files !== rows || rows !== records) wrong.push(`${files} files, ${rows} ledger rows, a total of ${records}`);
  if (different > 0) wrong.push(`${different} files differ from their ledger rows`);
  if (attempts > 0) wrong.push(`${attempts} uploads spent attempts and were stored nevertheless without their being forgotten`);
  return wrong;
}

const FETCH_AT_ONCE = 8;

async function compareBytes(hub: Hub, promised: Acknowledgement[], most: number): Promise<string[]> {
  const chosen = promised.length <= most ? promised : promised.filter((_, index) => index % Math.ceil(promised.length / most) === 0);
  const wrong: string[] = [];
  let next = 0;
  await Promise.all(Array.from({ length: FETCH_AT_ONCE }, async () => {
    for (let i = next++; i < chosen.length; i = next++) {
      const { id, sha256 } = chosen[i]!;
      try {
        const response = await fetch(`${hub.urls[0]}/api/files/${id}`);
        const found = createHash("sha256").update(new Uint8Array(await response.arrayBuffer())).digest("hex");
        if (found !== sha256) wrong.push(`${id} comes back with other bytes (status ${response.status})`);
      } catch (error) {
        wrong.push(`${id} does not come back: ${String(error)}`);
      }
    }
  }));
  return wrong.slice(0, 5);
}

/** What web and worker are held to under load, too (bench/results); at rest, after whatever happened, it must be no more. */
const MOST_MEMORY_KB = 256 * 1024;
/** Of a process at rest, with its clients gone: seen are 30 to 60. */
const MOST_DESCRIPTORS = 90;
/** Beside what it had when it was warm: connections of the pool, and of the oracle, which fetches every byte. */
const MORE_DESCRIPTORS = 20;
/** An S3 store keeps its connections, and may have had none of them yet. */
const DESCRIPTORS_OF_AN_S3_STORE = 64;
/**
 * Garbage may gather: 40 MiB that is old and 24 MiB that streamed through (src/core/garbage.ts), and V8's room for the young,
 * three times 16 MiB, grows only under load; of S3 the last two parts. Seen are 70 on a disk and 85 with S3, after 3,000 uploads.
 */
const MORE_MEMORY_KB = 128 * 1024;

const baselines = new WeakMap<Program, Footprint>();

/**
 * To be called once the processes are warm: whenever the system is judged from now on, each of them that still runs has to
 * be back at what it has now. The oracle does it itself for those that it finds in order.
 */
export function takeBaseline(hub: Hub, { anew = true } = {}): void {
  for (const program of programsOf(hub)) if (anew || !baselines.has(program)) baselines.set(program, footprintOf(program));
}

/** What is too much of all processes that run, at rest. */
async function findExcess(hub: Hub, withinMs: number): Promise<string[]> {
  const look = () => programsOf(hub).flatMap((program) => excessOf(hub, program));
  const deadline = Date.now() + withinMs;
  let excess = look();
  while (excess.length > 0 && Date.now() < deadline) {
    await pause(POLL_MS);
    excess = look();
  }
  return excess;
}

function excessOf({ config }: Hub, program: Program): string[] {
  const stores = [config.INBOX === "s3", config.STORAGE_MODE === "s3"].filter(Boolean).length;
  const forStores = stores * DESCRIPTORS_OF_AN_S3_STORE;
  const found = footprintOf(program);
  const wrong = findGrowth({ memoryKb: 0, descriptors: 0 }, found, { memoryKb: MOST_MEMORY_KB, descriptors: MOST_DESCRIPTORS + forStores });
  const baseline = baselines.get(program);
  if (!baseline) return wrong;
  const allowed = { memoryKb: MORE_MEMORY_KB, descriptors: MORE_DESCRIPTORS + forStores };
  return [...wrong, ...findGrowth(baseline, found, allowed)];
}

function programsOf(hub: Hub): Program[] {
  return hub.slots.flatMap((slot) => slot.program() ?? []);
}
