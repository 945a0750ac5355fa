import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";

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

const LOOKS_PER_WINDOW = 8;
const MOST_BETWEEN_LOOKS_MS = 1_000;

/**
 * Gives up requests whose bodies come too slowly, which an idle timer never does: it begins anew with every byte.
 * All connections are looked at in turn, so a request itself pays next to nothing. Only a body's own bytes count: a chunk's
 * size may be written with zeros without end, and have an extension. While we do not read, nothing is held against the client.
 */
export function keepMinimumRate(server: Server, { leastBytesPerSecond, windowMs, giveUp }: MinimumRate): void {
  if (leastBytesPerSecond === 0) return;
  const leastBytes = (leastBytesPerSecond * windowMs) / 1000;
  const connections = new Map<Socket, Window | undefined>();
  server.on("connection", (socket: Socket) => {
    connections.set(socket, undefined);
    socket.once("close", () => connections.delete(socket));
  });

  const everyMs = Math.min(MOST_BETWEEN_LOOKS_MS, windowMs / LOOKS_PER_WINDOW);
  let lookedAt = performance.now();

  function look(): void {
    const now = performance.now();
    const passedMs = Math.min(now - lookedAt, 2 * everyMs);
    lookedAt = now;
    for (const [socket, window] of connections) {
      const body = arrivingBody(socket);
      if (!body || socket.writableEnded) {
        if (window) connections.set(socket, undefined);
        continue;
      }
      if (window?.body === body && !isHeldUp(body)) {
        window.lastedMs += passedMs;
        if (window.lastedMs < windowMs) continue;
        if ((body[BODY_BYTES] ?? 0) - window.bytes < leastBytes) {
          giveUp(socket);
          continue;
        }
      }
      connections.set(socket, { body, lastedMs: 0, bytes: body[BODY_BYTES] ?? 0 });
    }
  }

  const timer = setInterval(look, everyMs);
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
