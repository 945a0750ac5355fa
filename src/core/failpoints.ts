import { setTimeout as sleep } from "node:timers/promises";

/**
 * The steps of the protocol, in their order, named for what has just happened. At each of them a process can be made to
 * fail, which is how the tests show that no step loses or doubles anything. The tests' model of the protocol uses these names, and
 * those that follow.
 */
export const PROTOCOL_STEPS = [
  // web, for each upload
  "file-written", // a large object's bytes are flushed, its record is not written yet (either store of a disk); in S3: all its parts are there, it is not completed yet
  "bytes-received", // measured; a large upload's blob is durable; no manifest yet
  "manifest-committed", // promised, though nobody was told; not in the stream yet
  "entry-appended", // in the stream; not answered yet
  // worker, for each batch
  "batch-read",
  "records-read",
  "objects-stored",
  "rows-committed", // files and ledger rows are there; the inbox still has the uploads
  "manifests-removed", // out of the inbox, though large uploads' blobs are still there
  "inbox-removed", // the entries are not acknowledged yet
  "batch-acknowledged",
  "attempt-counted",
  "dead-letter-written", // its entry is not acknowledged yet
  // reconciler, for each page of the inbox
  "inbox-listed",
  "settled-removed",
  "uploads-requeued",
] as const;

/** The steps of what is done about dead letters and damage: each puts bytes in the place of others, or takes some away. */
export const TROUBLE_STEPS = [
  // web, for each decision on dead letters
  "bytes-replaced", // healing: the good bytes stand under the id; the letter is there still
  "dead-letter-healed", // no letter any more; the damaged bytes are not removed yet, nor is it in the stream
  "dead-letters-raised", // retrying: no letters any more; not in the stream yet
  "bytes-discarded", // the letter is there still
  "dead-letter-discarded", // not answered yet
  // worker, where an object turns out to be damaged of which it has good bytes
  "damage-recorded",
  "object-replaced", // by the good bytes; the records call it damaged still
] as const;

/** The steps of analytics events; "batch-read" and "batch-acknowledged" are theirs as well. */
export const EVENT_STEPS = [
  // web, for each unit of events that are accepted together
  "events-appended", // in the stream; not answered yet
  "events-spooled", // on the disk, as Redis did not take them; not answered yet
  // worker, for each transaction
  "events-written", // rows and figures are written, nothing is committed
  "events-recorded", // committed; not acknowledged, or still on the disk
  "spool-removed", // no longer on the disk
] as const;

export const FAILPOINTS = [...PROTOCOL_STEPS, ...TROUBLE_STEPS, ...EVENT_STEPS] as const;

export type FailpointName = (typeof FAILPOINTS)[number];

/** kill: SIGKILL to itself. stop: SIGSTOP to itself, until somebody sends SIGCONT. error: throws. pause: waits. */
export type FailpointAction = { what: "kill" | "stop" | "error" } | { what: "pause"; ms: number };

export interface Failpoint {
  name: FailpointName;
  action: FailpointAction;
  /** Counted from 1: the first so many times it is only passed. Undefined: every time. */
  time: number | undefined;
}

const SPECIFICATION = /^([a-z-]+)=(?:(kill|stop|error)|pause:(\d+))(?:@(\d+))?$/;

/**
 * Reads a list such as "rows-committed=kill@2,batch-read=pause:500".
 * @throws Error that names what is not understood, and the names there are
 */
export function parseFailpoints(text: string): Failpoint[] {
  return text.split(",").filter(Boolean).map((specification) => {
    const [, name, what, ms, time] = SPECIFICATION.exec(specification.trim()) ?? [];
    const known = FAILPOINTS.find((failpoint) => failpoint === name);
    if (!known) throw new Error(`'${specification}' is not name=kill|stop|error|pause:ms, with @n for the n-th time only. Names: ${FAILPOINTS.join(", ")}`);
    const action = what ? { what: what as "kill" } : { what: "pause" as const, ms: Number(ms) };
    return { name: known, action, time: time === undefined ? undefined : Number(time) };
  });
}

let armed: Map<FailpointName, Failpoint & { passed: number }> | undefined;

/** For the whole process. Production refuses the setting. */
export function armFailpoints(failpoints: readonly Failpoint[]): void {
  if (failpoints.length > 0) armed = new Map(failpoints.map((failpoint) => [failpoint.name, { ...failpoint, passed: 0 }]));
}

/** Passes a step: undefined, at once, unless it is armed. */
export function failpoint(name: FailpointName): Promise<void> | undefined {
  const found = armed?.get(name);
  if (!found) return undefined;
  found.passed++;
  return found.time === undefined || found.passed === found.time ? act(found) : undefined;
}

async function act({ name, action }: Failpoint): Promise<void> {
  if (action.what === "pause") return void (await sleep(action.ms));
  if (action.what === "error") throw new Error(`failpoint ${name}`);
  process.stderr.write(`failpoint ${name}: ${action.what}\n`);
  process.kill(process.pid, action.what === "kill" ? "SIGKILL" : "SIGSTOP");
  if (action.what === "kill") await new Promise(() => {}); // not one step further
}
