import { readdir } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { expect } from "vitest";
import type { FailureCode } from "../../src/core/errors.ts";
import { FAILURES } from "../../src/core/errors.ts";
import type { World } from "../support/world.ts";

/** An answer as it came over the wire. Names of headers are in lower case. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
  text: string;
}

type Bytes = string | Uint8Array;

/** A connection that sends exactly what it is told, where fetch would tidy it or refuse to. @param from  another address of this machine, such as 127.0.0.2 */
export function connectRaw(url: string, { from }: { from?: string } = {}) {
  const { hostname, port } = new URL(url);
  const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true, ...(from && { localAddress: from }) });
  let received: Buffer = Buffer.alloc(0);
  let reset: NodeJS.ErrnoException | undefined;
  let wake = () => {}; // whoever waits for an answer
  const closed = new Promise<void>((resolve) => void socket.once("close", () => resolve()));
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    wake();
  });
  socket.on("error", (error) => void (reset = error));
  for (const event of ["end", "close"]) socket.once(event, () => wake());

  /** @returns when the kernel has taken it; false: the connection is gone */
  function send(bytes: Bytes): Promise<boolean> {
    return new Promise((resolve) => {
      if (socket.destroyed || !socket.writable) return resolve(false);
      const onClose = () => resolve(false);
      socket.once("close", onClose);
      socket.write(bytes, (error) => {
        socket.off("close", onClose);
        resolve(!error);
      });
    });
  }

  /** The next whole answer. @param method  of the request it answers: HEAD has no body @throws when the connection ends before it */
  async function answer(method = "GET"): Promise<Answer> {
    for (;;) {
      const found = parse(received, method, socket.readableEnded || socket.destroyed);
      if (found) {
        received = received.subarray(found.bytes);
        return found.answer;
      }
      if (socket.readableEnded || socket.destroyed) throw new Error(`closed without an answer${reset ? ` (${reset.code})` : ""}, after ${JSON.stringify(String(received))}`);
      await new Promise<void>((resolve) => void (wake = resolve));
    }
  }

  return {
    socket, send, answer, closed,
    /** What came and was not taken as an answer yet. */
    rest: () => String(received),
    /** Why the connection broke, if it did not end in order. */
    broken: () => reset?.code,
    close: () => void socket.destroy(),
  };
}

/** Connections that stay open for a test, in the order in which they were opened. The test closes them at its end. */
export function holdConnections() {
  const held: ReturnType<typeof connectRaw>[] = [];
  return {
    held,
    open(...where: Parameters<typeof connectRaw>) {
      const connection = connectRaw(...where);
      held.push(connection);
      return connection;
    },
    closeAll() {
      for (const connection of held.splice(0)) connection.close();
    },
  };
}

/** One request, one answer, on a connection of its own. */
export async function ask(url: string, request: Bytes, method?: string, source: { from?: string } = {}): Promise<Answer> {
  const connection = connectRaw(url, source);
  try {
    void connection.send(request);
    return await connection.answer(method ?? /^[A-Z]+/.exec(String(request.slice(0, 20)))?.[0]);
  } finally {
    connection.close();
  }
}

function parse(bytes: Buffer, method: string, ended: boolean): { answer: Answer; bytes: number } | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) return undefined;
  const [statusLine = "", ...lines] = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1]);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const start = headEnd + 4;
  const whole = (body: Buffer, end: number) => ({ answer: { status, headers, body, text: String(body) }, bytes: end });
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return whole(Buffer.alloc(0), start);
  const length = headers["content-length"];
  if (length !== undefined) {
    const end = start + Number(length);
    return bytes.length < end ? undefined : whole(bytes.subarray(start, end), end);
  }
  if (headers["transfer-encoding"] === "chunked") return parseChunks(bytes, start, whole);
  return ended ? whole(bytes.subarray(start), bytes.length) : undefined;
}

function parseChunks<T>(bytes: Buffer, start: number, whole: (body: Buffer, end: number) => T): T | undefined {
  const chunks: Buffer[] = [];
  for (let at = start; ;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    const next = lineEnd + 2 + size + 2;
    if (bytes.length < next) return undefined;
    if (size === 0) return whole(Buffer.concat(chunks), next);
    chunks.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = next;
  }
}

/** Refused in our own shape, and with the status that the code has. */
export function expectRefusal(answer: Answer, code: FailureCode): void {
  expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: FAILURES[code].status, code });
  expect(JSON.parse(answer.text)).toEqual({ error: expect.stringMatching(/^\S.*\.$/s), code, request_id: answer.headers["x-request-id"] ?? null });
  expect(answer.headers).toMatchObject({ "content-type": "application/json; charset=utf-8", "x-content-type-options": "nosniff" });
}

/** The code of a refusal, or else what came instead of it. */
function codeOf({ text }: Answer): unknown {
  try {
    return JSON.parse(text).code;
  } catch {
    return text;
  }
}

/** All that the inbox holds but the web processes' tallies: keys of its store, and files in its folder whether they have a key or not. */
export async function inboxOf({ context, config }: World): Promise<string[]> {
  const objects = (await context.inbox.store.list("", { limit: 1_000 })).filter(({ key }) => !key.startsWith("tallies/"));
  const files = await readdir(join(config.INBOX_DIR, "files"), { recursive: true, withFileTypes: true }).catch(() => []);
  return [...objects.map(({ key }) => key), ...files.filter((entry) => entry.isFile()).map(({ name }) => name)];
}
