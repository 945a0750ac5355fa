import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { ChosenFile } from "./file-choice.ts";
import { createHttpClient, type Answer } from "./http-client.ts";
import type { Tally, Trouble } from "./tally.ts";

/** What somebody holds who handed a file in. */
export interface HeldReceipt {
  fileId: string;
  file: Pick<ChosenFile, "name" | "sha256">;
  user: string;
  /** On performance.now()'s clock. */
  receivedMs: number;
  /** How long after the receipt the person's page said it was stored; undefined: it did not. */
  storedMs?: number | undefined;
}

export interface Missing {
  fileId: string;
  name: string;
  user: string;
  /** What was said of it last. */
  lastStatus: string;
}

/** A receipt that came to no good end, of which its owner knows nothing yet. */
export interface Broken {
  fileId: string;
  user: string;
  kind: "dead letter" | "wrong hash" | "missing";
  detail: string;
}

export interface ReceiptCounts {
  receipts: number;
  stored: number;
  /** Dead letters that say why. */
  failed: number;
  wrong: number;
  waiting: number;
}

export type Receipts = ReturnType<typeof createReceipts>;

const AT_ONCE = 16;
const TIMEOUT_MS = 10_000;
/** After Ctrl-C nobody wants to wait for the ledger; what is there by then is told. */
const LAST_LOOK_MS = 2_000;
/** Each look waits longer than the last one did; all that wait equally long are first in, first out. */
const WAITS_MS = [100, 200, 400, 800, 1500, 3000];
/** Of those that are given by name; the rest is counted. */
export const MOST_MISSING_NAMED = 200;
/** Users of whom a broken receipt is kept to be looked at; far more than a browser can serve. */
const MOST_BROKEN = 10_000;

interface Waiting {
  receipt: HeldReceipt;
  looks: number;
  dueMs: number;
  lastStatus: string;
}

/** Looks every receipt up until the ledger has it, or a dead letter says why it has not. */
export function createReceipts({ target, tally, patienceMs, atOnce = AT_ONCE }: { target: string; tally: Tally; patienceMs: number; atOnce?: number }) {
  const client = createHttpClient({ target, sockets: atOnce, timeoutMs: TIMEOUT_MS });
  const queues = WAITS_MS.map(() => createQueue<Waiting>());
  const counts: ReceiptCounts = { receipts: 0, stored: 0, failed: 0, wrong: 0, waiting: 0 };
  const failedReasons = new Map<string, number>();
  const broken = new Map<string, Broken>();
  let lastFoundAt = performance.now();
  let given: (() => boolean) | undefined;
  let stopped = false;
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // each of the lookers listens
  const lookers = Array.from({ length: atOnce }, () => look());

  function wait(entry: Waiting): void {
    const level = Math.min(entry.looks, WAITS_MS.length - 1);
    entry.dueMs = performance.now() + WAITS_MS[level]!;
    queues[level]!.push(entry);
  }

  /** Of each user the first one is kept. */
  function breaks({ fileId, user }: HeldReceipt, kind: Broken["kind"], detail: string): void {
    if (!broken.has(user) && broken.size < MOST_BROKEN) broken.set(user, { fileId, user, kind, detail });
    if (kind !== "missing") tally.failed({ kind, detail });
  }

  function takeDue(): Waiting | undefined {
    const nowMs = performance.now();
    return queues.find((queue) => (queue.first()?.dueMs ?? Infinity) <= nowMs)?.take();
  }

  /** One of the lookers: takes what is due, asks, and puts it back if it is not there yet. */
  async function look(): Promise<void> {
    while (!stopped && !given?.()) {
      const entry = takeDue();
      if (!entry) {
        await sleep(20, undefined, { signal: stopping.signal }).catch(() => undefined);
        continue;
      }
      if (await ask(entry)) {
        lastFoundAt = performance.now();
        counts.waiting--;
      } else {
        entry.looks++;
        wait(entry);
      }
    }
  }

  /** @returns false: it has to be asked again */
  async function ask(entry: Waiting): Promise<boolean> {
    const { receipt } = entry;
    const answer = await client.ask({ method: "GET", path: `/api/files/${receipt.fileId}/status`, headers: { Accept: "application/json" }, signal: stopping.signal })
      .catch((error: NodeJS.ErrnoException) => error.code ?? error.message);
    if (typeof answer === "string") {
      entry.lastStatus = `no answer (${answer})`;
      return false;
    }
    const status = answer.status === 200 ? readJson(answer.text) : undefined;
    entry.lastStatus = status ? String(status["status"]) : readRefusal(answer).detail;
    if (status?.["status"] === "failed") {
      const reason = String(status["reason"] ?? "it does not say why");
      counts.failed++;
      failedReasons.set(reason, (failedReasons.get(reason) ?? 0) + 1);
      breaks(receipt, "dead letter", reason);
      return true;
    }
    if (status?.["status"] !== "stored") return false;
    if (status["sha256"] !== receipt.file.sha256) {
      counts.wrong++;
      breaks(receipt, "wrong hash", `${receipt.fileId} (${receipt.file.name}) has SHA-256 ${status["sha256"]}`);
      return true;
    }
    counts.stored++;
    tally.stored(receipt.storedMs ?? storedAfterMs(status) ?? performance.now() - receipt.receivedMs);
    return true;
  }

  return {
    counts, failedReasons,
    /** One of each user who has any: dead letters, other bytes, and once it is settled those that are missing. */
    broken: () => [...broken.values()],
    add(receipt: HeldReceipt) {
      counts.receipts++;
      counts.waiting++;
      lastFoundAt = performance.now();
      wait({ receipt, looks: 0, dueMs: 0, lastStatus: "not asked yet" });
    },
    /**
     * Goes on until all are found, or none was for `patienceMs`, or a moment after it is stopped.
     * @returns those that are missing, the first of them by name
     */
    async settle(signal: AbortSignal): Promise<{ count: number; named: Missing[] }> {
      let endsAt = signal.aborted ? performance.now() + LAST_LOOK_MS : Infinity;
      signal.addEventListener("abort", () => { endsAt = performance.now() + LAST_LOOK_MS; });
      lastFoundAt = performance.now();
      given = () => counts.waiting === 0 || performance.now() >= endsAt || performance.now() - lastFoundAt >= patienceMs;
      await Promise.all(lookers);
      const left = queues.flatMap((queue) => queue.rest());
      for (const { receipt, lastStatus } of left) breaks(receipt, "missing", `${receipt.file.name}: last said of it: ${lastStatus}`);
      return {
        count: counts.waiting,
        named: left.slice(0, MOST_MISSING_NAMED).map(({ receipt, lastStatus }) => ({ fileId: receipt.fileId, name: receipt.file.name, user: receipt.user, lastStatus })),
      };
    },
    async close() {
      stopped = true;
      stopping.abort();
      await Promise.all(lookers);
      client.close();
    },
  };
}

/** By the site's own clock, so that it does not depend on how often we ask. */
function storedAfterMs(status: Record<string, unknown>): number | undefined {
  const ms = Date.parse(String(status["stored_at"])) - Date.parse(String(status["accepted_at"]));
  return ms >= 0 ? ms : undefined;
}

/** @returns the id of the file */
export function readReceipt(text: string): string | undefined {
  const id = readJson(text)?.["file_id"];
  return typeof id === "string" ? id : undefined;
}

/** The site says why in one sentence and a code; what stands before it may not. */
export function readRefusal({ status, text }: Pick<Answer, "status" | "text">): Trouble {
  const said = readJson(text);
  return { kind: "refused", detail: typeof said?.["code"] === "string" ? `${status} ${said["code"]}: ${said["error"]}` : `${status}` };
}

function readJson(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** First in, first out, without moving what is left at each take. */
function createQueue<Item>() {
  let items: Item[] = [], head = 0;
  return {
    push: (item: Item) => void items.push(item),
    first: () => items[head],
    take() {
      const item = items[head++];
      if (head > 1024 && head * 2 > items.length) {
        items = items.slice(head);
        head = 0;
      }
      return item;
    },
    rest: () => items.slice(head),
  };
}
