import type { ErrorRequestHandler, Request, RequestHandler, Response } from "express";
import { Failure, FAILURES, Unavailable, type Dependency, type FailureCode } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { pageHeaders } from "./page-headers.ts";
import { createRefusals } from "./refusals.ts";
import { keepOpenAfterAnswer, lingerThenDestroy } from "./server.ts";

const RETRY_AFTER_SECONDS = 5;

/**
 * Turns whatever was thrown into an answer: a page for people (addresses outside /api that ask for HTML), JSON for
 * everybody else. Only Failure and Unavailable are expected; anything else is a bug, is logged, and answers 500.
 */
export function createAnswerErrors(log: Log): { answerNotFound: RequestHandler; answerError: ErrorRequestHandler } {
  const warnOnceAMinute = createRefusals((_kind: string, refused, refusal: object) => log.warn({ ...refusal, refused }, "request refused"));

  const answerNotFound: RequestHandler = (req, res, next) => answerError(new Failure("NOT_FOUND"), req, res, next);

  const answerError: ErrorRequestHandler = (error, req, res, _next) => {
    const failure = toFailure(error);
    const requestId: string = res.locals.requestId;
    if (failure.status === 500) log.error({ err: error, requestId, method: req.method }, "request failed: a bug");
    else if (!isTold(error, failure, requestId)) log.debug({ requestId, code: failure.code }, "request refused");
    if (res.headersSent || res.destroyed) {
      req.socket.destroy(); // the answer broke off in the middle; a reset is the only way left to say so
      return;
    }
    answer(req, res, failure);
  };

  /** @returns whether the log has a line for people */
  function isTold(err: unknown, failure: Failure, requestId: string): boolean {
    const { status, code, cause } = failure;
    if (status < 500 || isShedding(failure)) return false;
    if (cause instanceof Unavailable) return warnOnceAMinute(`${code} ${cause.dependency}`, { err, requestId, code });
    log.warn({ err, requestId, code }, "request refused");
    return true;
  }

  function answer(req: Request, res: Response, failure: Failure): void {
    const requestId: string = res.locals.requestId;
    for (const header of OF_A_FILE) res.removeHeader(header);
    if (failure.code !== "RANGE_NOT_SATISFIABLE") res.removeHeader("Content-Range");
    const retryAfterSeconds = failure.retryAfterSeconds ?? (failure.status === 503 ? RETRY_AFTER_SECONDS : undefined);
    if (retryAfterSeconds !== undefined) res.setHeader("Retry-After", retryAfterSeconds);
    closeUnlessRead(req, res);
    const { status, message, code } = failure;
    const answerJson = () => sendJson(res, status, { error: message, code, request_id: requestId });
    if (!isPage(req)) return answerJson();
    pageHeaders(req, res, () => {
      res.render("error", { page: "error", title: "That did not work", status, message, code, requestId }, (error, page) => {
        if (!error) return void res.status(status).send(page);
        log.error({ err: error, requestId }, "the error page itself failed: a bug");
        answerJson();
      });
    });
  }

  return { answerNotFound, answerError };
}

/** The door sheds load, and says so itself. */
function isShedding({ code, cause }: Failure): boolean {
  return code === "TOO_BUSY" || code === "BACKLOG_FULL" || code === "EVENTS_BACKLOG_FULL" || (code === "OUT_OF_SPACE" && cause === undefined);
}

/** What was set before it turned out that there is no file to send. */
const OF_A_FILE = ["Content-Disposition", "ETag", "Last-Modified"];

/** A body that nobody will read: the client is told, and the connection closed, instead of reading gigabytes to their end. */
function closeUnlessRead(req: Request, res: Response): void {
  // `complete` comes after the headers were handled, also where there is no body.
  const announced = req.headers["transfer-encoding"] !== undefined || Number(req.headers["content-length"] ?? 0) > 0;
  if (req.complete || !announced) return;
  res.setHeader("Connection", "close");
  keepOpenAfterAnswer(req.socket);
  res.once("finish", () => {
    req.unpipe();
    lingerThenDestroy(req.socket);
  });
}

function isPage(req: Request): boolean {
  return !req.path.startsWith("/api/") && req.accepts(["json", "html"]) === "html";
}

/** Writes JSON without Express's detour over charset, ETag and freshness. */
export function sendJson(res: Response, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  res.writeHead(status, { "Content-Type": "application/json; charset=utf-8", "Content-Length": Buffer.byteLength(text) });
  res.end(res.req.method === "HEAD" ? undefined : text);
}

/** For `router.all` behind the methods an address has. */
export function allow(...methods: string[]): RequestHandler {
  const header = methods.join(", ");
  return (_req, res) => {
    res.setHeader("Allow", header);
    throw new Failure("METHOD_NOT_ALLOWED");
  };
}

const NAMES: Record<Dependency, string> = { redis: "Redis", postgres: "PostgreSQL", inbox: "The inbox", storage: "The object store" };

const STATUS_CODES: Record<number, FailureCode> = { 400: "MALFORMED_REQUEST", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "FILE_TOO_LARGE" };

function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Unavailable) {
    if (error.full && error.dependency !== "redis") return new Failure("OUT_OF_SPACE", undefined, { cause: error });
    return new Failure("UNAVAILABLE", FAILURES.UNAVAILABLE.message.replace("Something this needs", NAMES[error.dependency]), { cause: error });
  }
  // Express's own refusals, such as a path that is not valid percent-encoding, carry a status below 500.
  const status = error instanceof Error && "status" in error ? Number(error.status) : 500;
  const code = STATUS_CODES[status] ?? (status >= 400 && status < 500 ? "MALFORMED_REQUEST" : "INTERNAL_ERROR");
  return new Failure(code, undefined, { cause: error });
}
