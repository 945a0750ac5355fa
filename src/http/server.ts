import { createServer, IncomingMessage, ServerResponse, type Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Express } from "express";
import { FAILURES, type FailureCode } from "../core/errors.ts";
import { networkOf } from "./client-address.ts";
import { connectionsOf } from "./connections.ts";
import { countBodies, isHeldUp, keepAnswerRate, keepMinimumRate } from "./minimum-rate.ts";

export interface ServerSettings {
  app: Express;
  /** A connection on which nothing moves for so long is given up: 408. */
  idleMs: number;
  /** So is a body that brings less than this over `idleMs`; a slow one that brings it is never cut. 0: whatever moves will do. */
  leastBytesPerSecond?: number;
  /** And an answer of which the client takes less than this over `idleMs` in which it could. 0: whatever it takes will do. */
  leastAnswerBytesPerSecond?: number;
  /** A request whose headers take longer is given up: 408. */
  headersTimeoutMs?: number;
  /** Beyond it a connection is closed unheard. */
  mostConnections?: number;
  /** All connections come from one address then, which may have all of them. */
  behindProxy?: boolean;
}

const HEADERS_TIMEOUT_MS = 10_000;
const CHECK_EVERY_MS = 2_000;
const KEEP_ALIVE_MS = 65_000; // above the 60 s of common proxies, or they reuse a connection that we just closed
const MAX_HEADER_BYTES = 16_384;
/** An idle one takes 9 KB (measured); without a bound they would take the memory and the descriptors that uploads need. */
const MOST_CONNECTIONS = 10_000;

/** An HTTP server whose limits fit uploads: bodies may take hours, headers may not. */
export function createHttpServer({
  app, idleMs, leastBytesPerSecond = 0, leastAnswerBytesPerSecond = 0, headersTimeoutMs = HEADERS_TIMEOUT_MS, mostConnections = MOST_CONNECTIONS, behindProxy = false,
}: ServerSettings): Server {
  const server = createServer({
    ...messageClasses(app),
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: headersTimeoutMs,
    requestTimeout: 0, // it would cover the body and cut slow uploads
    connectionsCheckingInterval: Math.min(CHECK_EVERY_MS, headersTimeoutMs),
    requireHostHeader: false, // the app requires it: Node's refusal has no body
    keepAliveTimeout: KEEP_ALIVE_MS,
    noDelay: true,
  }, app);
  // A client that asks first is told to go on only when the size it names can be accepted: see uploads/routes.ts.
  server.on("checkContinue", (req, res) => app(req, res));
  server.on("checkExpectation", (req, res) => app(req, res)); // any other: not ours to meet, and no reason to refuse
  connectionsOf(server); // known from the first one on
  server.maxConnections = mostConnections;
  if (!behindProxy) shareConnections(server, mostConnections);
  server.on("clientError", answerUnparsable);
  server.on("connect", refuseConnect);
  server.maxHeadersCount = 0; // beyond 2,000 it would drop them without a word; their size is limited
  server.setTimeout(idleMs, giveUpIdle);
  keepMinimumRate(server, { leastBytesPerSecond, windowMs: idleMs, giveUp: giveUpSlow });
  keepAnswerRate(server, { leastBytesPerSecond: leastAnswerBytesPerSecond, windowMs: idleMs, answerOn: messageOf });
  return server;
}

/** One address has at most as many connections as are free, or it could take all, and nobody else would be heard. */
function shareConnections(server: Server, mostConnections: number): void {
  const addresses = new Map<string, number>();
  let all = 0;
  server.on("connection", (socket: Socket) => {
    if (socket.remoteAddress === undefined) return; // gone already
    const address = networkOf(socket.remoteAddress);
    const own = addresses.get(address) ?? 0;
    if (own > 0 && own >= mostConnections - all) return void socket.destroy();
    all++;
    addresses.set(address, own + 1);
    socket.once("close", () => {
      all--;
      const left = addresses.get(address)! - 1;
      if (left > 0) addresses.set(address, left);
      else addresses.delete(address);
    });
  });
}

/**
 * Express sets the prototypes of every request and response to its own. Where they already are, that costs nothing;
 * otherwise it makes V8 forget what it learnt of these objects, which halves the requests a second.
 */
function messageClasses(app: Express) {
  function Request(this: IncomingMessage, socket: Socket) {
    (IncomingMessage as unknown as Function).call(this, socket);
  }
  function Response(this: ServerResponse, req: IncomingMessage, options?: object) {
    (ServerResponse as unknown as Function).call(this, req, options);
  }
  countBodies(app.request);
  Request.prototype = app.request;
  Response.prototype = app.response;
  return {
    IncomingMessage: Request as unknown as typeof IncomingMessage,
    ServerResponse: Response as unknown as typeof ServerResponse,
  };
}

/** What Node's parser refuses never becomes a request, so it is answered on the bare socket. */
function answerUnparsable(error: NodeJS.ErrnoException, socket: Socket): void {
  const res = messageOf(socket);
  // In the middle of an answer a second one would be read as a part of it.
  if (error.code === "ECONNRESET" || !socket.writable || res?.headersSent) {
    socket.destroy();
    return;
  }
  // Nonsense behind a whole request: our refusal would be read as the answer to that one, which may be promised by now.
  if (res?.req.complete) {
    res.shouldKeepAlive = false;
    return;
  }
  answerAndClose(socket, PARSER_ANSWERS[error.code ?? ""] ?? "MALFORMED_REQUEST");
}

/** CONNECT: without this Node hangs up without a word. It has taken its listeners off the socket, the one for errors too. */
function refuseConnect(_req: IncomingMessage, socket: Duplex): void {
  socket.on("error", () => socket.destroy());
  answerAndClose(socket as Socket, "MALFORMED_REQUEST");
}

const PARSER_ANSWERS: Record<string, FailureCode> = {
  HPE_HEADER_OVERFLOW: "HEADERS_TOO_LARGE",
  ERR_HTTP_REQUEST_TIMEOUT: "REQUEST_TIMEOUT",
};

/** Nothing moved on the socket for `idleMs`. */
function giveUpIdle(socket: Socket): void {
  const res = messageOf(socket);
  if (!res) return socket.bytesRead > 0 && socket.bytesWritten === 0
    ? answerAndClose(socket, "REQUEST_TIMEOUT") // in the middle of its first headers
    : void socket.destroy(); // between two requests
  const { req } = res;
  const weAreSlow = req.complete ? !res.headersSent || socket.writableLength === 0 : isHeldUp(req);
  if (weAreSlow) return void socket.setTimeout(socket.timeout ?? 0); // the timer fires once; start it anew
  if (req.complete || res.headersSent) return void socket.destroy(); // the client does not take the answer
  answerAndClose(socket, "REQUEST_TIMEOUT");
}

/** A body comes too slowly. */
function giveUpSlow(socket: Socket): void {
  const res = messageOf(socket);
  if (res && !res.headersSent && !res.req.complete) return answerAndClose(socket, "REQUEST_TIMEOUT");
  // Answered already; or, where requests come without waiting, an earlier one's answer is still on its way: not 408 in its place.
  if (!res || res.headersSent) socket.destroy();
}

/** The answer that is under way on the connection. */
function messageOf(socket: Socket): ServerResponse | undefined {
  return (socket as Socket & { _httpMessage?: ServerResponse })._httpMessage ?? undefined;
}

function answerAndClose(socket: Socket, code: FailureCode): void {
  const { status, message } = FAILURES[code];
  const body = JSON.stringify({ error: message, code, request_id: null });
  socket.end(
    `HTTP/1.1 ${status} ${code}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
    `X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n${body}`);
  lingerThenDestroy(socket);
}

const LINGER_MS = 1_000;
const LINGER_BYTES = 1_048_576;

/**
 * Closes a connection whose client may still be sending, once our answer is written. Destroying it at once makes the
 * kernel answer with a reset, which can overtake the answer; so we say that we are done, and for a moment what comes is
 * thrown away, but not much of it.
 */
export function lingerThenDestroy(socket: Socket): void {
  let drained = 0;
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
  socket.removeAllListeners("data"); // the parser's: what comes now is no request, nor a part of one
  socket.on("data", (chunk: Buffer) => {
    drained += chunk.length;
    if (drained > LINGER_BYTES) socket.pause(); // the client finds its way blocked, and our answer waiting
  });
  socket.end();
  socket.resume();
}

/** Node destroys the connection of a last answer as soon as that is written; this leaves closing it to us. */
export function keepOpenAfterAnswer(socket: Socket): void {
  socket.destroySoon = () => {};
}
