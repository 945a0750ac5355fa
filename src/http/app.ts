import express, { type Express, type ErrorRequestHandler, type Request, type RequestHandler } from "express";
import { Failure } from "../core/errors.ts";
import { nonce } from "../core/ids.ts";
import { allow } from "./answer-errors.ts";
import { createVendor } from "./vendor.ts";

export interface AppSettings {
  /** Folder of the EJS pages. */
  viewsFolder: string;
  /** Folder of what browsers load, served under /assets. */
  publicFolder: string;
  /** node_modules: what of it is served stands in vendor.ts. */
  packagesFolder: string;
  /** How many proxies stand in front: decides whose word on the client's address is taken. */
  trustProxyHops: number;
  routers: RequestHandler[];
  answerNotFound: RequestHandler;
  answerError: ErrorRequestHandler;
  locals: Record<string, unknown>;
}

const ASSETS_MAX_AGE_MS = 300_000; // names carry no version: a new release is seen within five minutes

/** The Express app: middleware in order. What every request passes is kept short, it is paid by each upload. */
export function createApp(settings: AppSettings): Express {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag"); // of JSON and pages: hashing an answer nobody keeps; bytes carry an ETag of their own
  app.set("query parser", "simple");
  app.set("trust proxy", settings.trustProxyHops);
  app.set("views", settings.viewsFolder);
  app.set("view engine", "ejs");
  app.enable("view cache");
  Object.assign(app.locals, settings.locals);

  app.use(nameRequest);
  for (const router of settings.routers) app.use(router); // the door first: what stands before it, every upload pays
  app.use("/assets/vendor", onlyReading, createVendor(settings.packagesFolder, ASSETS_MAX_AGE_MS));
  app.use("/assets", onlyReading, express.static(settings.publicFolder, { maxAge: ASSETS_MAX_AGE_MS, index: false, redirect: false }));
  app.use(settings.answerNotFound);
  app.use(settings.answerError);
  return app;
}

const processNonce = nonce();
let requestCount = 0;

/** Every answer and every log line of a request carry the same id; a proxy's own id is not taken on trust. */
const nameRequest: RequestHandler = (req, res, next) => {
  res.locals.requestId = `${processNonce}-${(++requestCount).toString(36)}`;
  res.setHeader("X-Request-Id", res.locals.requestId);
  res.setHeader("X-Content-Type-Options", "nosniff");
  const fault = faultOf(req);
  if (fault) {
    res.setHeader("Connection", "close");
    throw new Failure("MALFORMED_REQUEST", fault);
  }
  next();
};

const HOST = /^[\w.~!$&'()*+,;=:%[\]-]*$/; // RFC 3986, 3.2.2, and a port

/** What Node's parser lets pass, and nobody should guess at. */
function faultOf(req: Request): string | undefined {
  const { headers, httpVersion } = req;
  if (headers.host === undefined) {
    if (httpVersion === "1.1") return "The request has no Host header.";
  } else if (!HOST.test(headers.host) || hostsIn(req.rawHeaders) > 1) {
    return "The Host header is not one name.";
  }
  const coding = headers["transfer-encoding"];
  if (coding === undefined) return undefined;
  if (coding.toLowerCase() !== "chunked") return "The only Transfer-Encoding that is understood is chunked.";
  return httpVersion === "1.0" ? "HTTP/1.0 has no Transfer-Encoding." : undefined; // a proxy of that time would see another end
}

/** Node takes the first and drops the others. */
function hostsIn(rawHeaders: readonly string[]): number {
  let hosts = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.length === 4 && rawHeaders[at]!.toLowerCase() === "host") hosts++;
  }
  return hosts;
}

const refuseWriting = allow("GET", "HEAD");
const onlyReading: RequestHandler = (req, res, next) => (req.method === "GET" || req.method === "HEAD" ? next() : refuseWriting(req, res, next));
