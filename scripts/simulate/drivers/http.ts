import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import type { ClientRequest } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { ChosenFile } from "../file-choice.ts";
import { createHttpClient, TookTooLong, type Answer, type HttpClient, type Request } from "../http-client.ts";
import { readReceipt, readRefusal, type Receipts } from "../receipts.ts";
import type { Tally, Trouble } from "../tally.ts";
import type { Driver, Session } from "./driver.ts";

export interface HttpDriverSettings {
  target: string;
  sockets: number;
  /** For one upload, all its tries together. */
  timeoutMs: number;
  tally: Tally;
  receipts: Receipts;
  signal: AbortSignal;
}

/** From this size on the door's word is waited for before the body is sent. */
const ASK_FIRST_BYTES = 256 * 1024;
const FIRST_RETRY_MS = 200, LONGEST_RETRY_MS = 5_000;
/** Refused for now: RFC 6585 and RFC 9110, with Retry-After. */
const COME_AGAIN = new Set([429, 503]);

/** Clients without a browser, good ones: one Idempotency-Key an upload, and patience where the site asks for it. */
export function createHttpDriver({ target, sockets, timeoutMs, tally, receipts, signal }: HttpDriverSettings): Driver {
  const client = createHttpClient({ target, sockets, timeoutMs });

  async function handIn(user: string, file: ChosenFile, dueMs: number, random: () => number): Promise<void> {
    const givesUpAt = dueMs + timeoutMs;
    const request = random() < 0.5 ? asBody(file, user) : asForm(file, user);
    for (let attempt = 0; ; attempt++) {
      const outcome = await send(client, request, signal);
      if (signal.aborted) return;
      if ("status" in outcome && outcome.status === 202) {
        const receipt = readReceipt(outcome.text);
        if (!receipt) return tally.failed({ kind: "no receipt", detail: `202 with ${outcome.text.slice(0, 80) || "nothing"}` });
        const nowMs = performance.now();
        tally.received(file.sizeBytes, nowMs - dueMs);
        return receipts.add({ fileId: receipt, file, user, receivedMs: nowMs });
      }
      const waitMs = "status" in outcome ? comeAgainMs(outcome) : outcome.kind === "network" ? Math.min(FIRST_RETRY_MS * 2 ** attempt, LONGEST_RETRY_MS) : undefined;
      const trouble = "status" in outcome ? readRefusal(outcome) : outcome;
      // Nobody comes back at the same moment as all the others.
      const jitteredMs = (waitMs ?? 0) * (1 + random() / 2);
      if (waitMs === undefined || performance.now() + jitteredMs >= givesUpAt) return tally.failed(trouble);
      tally.retried(trouble.kind === "network" ? "the connection failed" : trouble.detail);
      await sleep(jitteredMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
    }
  }

  return {
    mostFiles: 1,
    openSession(user, random): Session {
      return {
        async visit(files, dueMs) {
          tally.attempt(files.length);
          for (const file of files) await handIn(user, file, dueMs, random);
        },
        close: async () => undefined,
      };
    },
    facts: async () => [["Connections", `at most ${sockets}, kept alive`]],
    close: async () => client.close(),
  };
}

async function send(client: HttpClient, request: Request, signal: AbortSignal): Promise<Answer | Trouble> {
  try {
    return await client.ask({ ...request, signal });
  } catch (error) {
    if (error instanceof TookTooLong) return { kind: "timeout", detail: error.message };
    return { kind: "network", detail: (error as NodeJS.ErrnoException).code ?? (error as Error).message };
  }
}

/** Undefined: not a matter of time. */
function comeAgainMs({ status, headers }: Answer): number | undefined {
  if (!COME_AGAIN.has(status)) return undefined;
  const seconds = Number(headers["retry-after"]);
  return seconds >= 0 ? Math.max(seconds * 1000, FIRST_RETRY_MS) : 1000;
}

/** The faster door: the bytes are the body. */
function asBody(file: ChosenFile, user: string): Request {
  return {
    method: "PUT", path: `/api/upload/${encodeURIComponent(file.name)}`,
    headers: { "X-Uploader-Id": user, "Content-Length": file.sizeBytes, ...commonHeaders(file) },
    send: (request) => sendFile(request, file),
  };
}

/** As curl -F and a browser's plain form send it. */
function asForm(file: ChosenFile, user: string): Request {
  const boundary = `----crowd-${randomUUID()}`;
  const head = Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="uploader_id"\r\n\r\n${user}\r\n`
    + `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${file.name.replaceAll(/["\r\n]/g, "_")}"\r\n`
    + "Content-Type: application/octet-stream\r\n\r\n");
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  return {
    method: "POST", path: "/api/upload",
    headers: { "Content-Type": `multipart/form-data; boundary=${boundary}`, "Content-Length": head.length + file.sizeBytes + tail.length, ...commonHeaders(file) },
    send: (request) => {
      request.write(head);
      sendFile(request, file, tail);
    },
  };
}

function commonHeaders(file: ChosenFile): Record<string, string> {
  return { "Idempotency-Key": randomUUID(), Accept: "application/json", ...(file.sizeBytes > ASK_FIRST_BYTES && { Expect: "100-continue" }) };
}

function sendFile(request: ClientRequest, file: ChosenFile, tail?: Buffer): void {
  if (file.bytes) {
    request.write(file.bytes);
    return void request.end(tail);
  }
  const stream = createReadStream(file.path).on("error", (error) => request.destroy(error)).on("end", () => request.end(tail));
  request.once("close", () => stream.destroy());
  stream.pipe(request, { end: false });
}
