import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { connectionsOf } from "./connections.ts";

export interface MinimumRate {
  /** A body that brings less than this, on average over a window, is given up. 0: none is. Needs countBodies. */
  leastBytesPerSecond: number;
  windowMs: number;
  giveUp: (socket: Socket) => void;
}

interface Window {
  body: IncomingMessage;
  /** For how long it has been looked at. A stall of this process, or a machine that slept, is not the client's time. */
  lastedMs: number;
  /** What had come when the window began. */
  bytes: number;
}

const BODY_BYTES = Symbol("bytes of the body that have come");
type Counted = IncomingMessage & { [BODY_BYTES]?: number };

/** Has the requests of this prototype count their bodies' bytes. */
export function countBodies(prototype: IncomingMessage): void {
  const { push } = prototype;
  prototype.push = function (this: Counted, chunk: Buffer | null, encoding) {
    if (chunk) this[BODY_BYTES] = (this[BODY_BYTES] ?? 0) + chunk.length;
    return push.call(this, chunk, encoding);
  };
}

/**
 * Gives up requests whose bodies come too slowly, which an idle timer never does: it begins anew with every byte.
 * Only a body's own bytes count: a chunk's size may be written with zeros without end, and have an extension. While we do
 * not read, nothing is held against the client.
 */
export function keepMinimumRate(server: Server, { leastBytesPerSecond, windowMs, giveUp }: MinimumRate): void {
  if (leastBytesPerSecond === 0) return;
  const leastBytes = (leastBytesPerSecond * windowMs) / 1000;
  const windows = new WeakMap<Socket, Window>();
  lookAtConnections(server, windowMs, (socket, passedMs) => {
    const body = arrivingBody(socket);
    if (!body || socket.writableEnded) return void windows.delete(socket);
    const window = windows.get(socket);
    if (window?.body === body && !isHeldUp(body)) {
      window.lastedMs += passedMs;
      if (window.lastedMs < windowMs) return;
      if ((body[BODY_BYTES] ?? 0) - window.bytes < leastBytes) return giveUp(socket);
    }
    windows.set(socket, { body, lastedMs: 0, bytes: body[BODY_BYTES] ?? 0 });
  });
}

export interface AnswerRate {
  /** An answer of which the client takes less than this, on average over a window, is broken off. 0: none is. */
  leastBytesPerSecond: number;
  windowMs: number;
  answerOn: (socket: Socket) => ServerResponse | undefined;
}

interface AnswerWindow {
  answer: ServerResponse;
  /** For how long there was something for the client to take. A storage's time, or our own, is not the client's. */
  waitedMs: number;
  waits: boolean;
  /** What had been taken when the window began. */
  bytes: number;
}

/**
 * Breaks off answers that are taken too slowly. The kernel takes what the client will, and buffers of its own, and tells us
 * in steps of a third of these: tens of KiB over a network, up to 1.3 MiB on the same machine.
 */
export function keepAnswerRate(server: Server, { leastBytesPerSecond, windowMs, answerOn }: AnswerRate): void {
  if (leastBytesPerSecond === 0) return;
  const leastBytes = (leastBytesPerSecond * windowMs) / 1000;
  const windows = new WeakMap<Socket, AnswerWindow>();
  lookAtConnections(server, windowMs, (socket, passedMs) => {
    const answer = answerOn(socket);
    if (!answer) return void windows.delete(socket);
    const waits = socket.writableLength > 0;
    const window = windows.get(socket);
    if (window?.answer !== answer) return void windows.set(socket, { answer, waitedMs: 0, waits, bytes: takenFrom(socket) });
    if (waits && window.waits) window.waitedMs += passedMs;
    window.waits = waits;
    if (window.waitedMs < windowMs) return;
    if (takenFrom(socket) - window.bytes < leastBytes) return void socket.destroy();
    windows.set(socket, { answer, waitedMs: 0, waits, bytes: takenFrom(socket) });
  });
}

/** What the kernel has taken: socket.bytesWritten has what waits, too, and what is being written counts there only as a whole. */
function takenFrom(socket: Socket): number {
  const { _bytesDispatched = 0, _handle } = socket as Socket & { _bytesDispatched?: number; _handle?: { writeQueueSize: number } | null };
  return _bytesDispatched - (_handle?.writeQueueSize ?? 0);
}

const LOOKS_PER_WINDOW = 8;
const MOST_BETWEEN_LOOKS_MS = 1_000;

/** Looks at all connections in turn, so that a request itself pays next to nothing. */
function lookAtConnections(server: Server, windowMs: number, look: (socket: Socket, passedMs: number) => void): void {
  const connections = connectionsOf(server);
  const everyMs = Math.min(MOST_BETWEEN_LOOKS_MS, windowMs / LOOKS_PER_WINDOW);
  let lookedAt = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    const passedMs = Math.min(now - lookedAt, 2 * everyMs);
    lookedAt = now;
    for (const socket of connections) look(socket, passedMs);
  }, everyMs);
  timer.unref();
  server.once("close", () => clearInterval(timer));
}

/** The request whose body is being read from the connection, or is still to be. */
function arrivingBody(socket: Socket): Counted | undefined {
  const request = (socket as Socket & { parser?: { incoming?: IncomingMessage | null } | null }).parser?.incoming;
  return request && !request.complete ? request : undefined;
}

/** There are bytes that we have not taken, or do not want yet: the client may be faster than it looks. */
export function isHeldUp(request: IncomingMessage): boolean {
  return request.readableLength > 0 || request.isPaused();
}
