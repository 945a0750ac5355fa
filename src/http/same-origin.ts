import type { Request, RequestHandler } from "express";
import { Failure } from "../core/errors.ts";

/**
 * For requests that change something and that a page of another site could make a browser send: a form triggers no
 * preflight, and where access is open there is not even a cookie to hold back. Browsers say where a request comes from:
 * in Sec-Fetch-Site, or, where they keep that to themselves (plain HTTP to another host than localhost), in Origin.
 * Programs such as curl send neither and pass.
 * @throws Failure CROSS_SITE_REQUEST
 */
export const sameOrigin: RequestHandler = (req, _res, next) => {
  const { "sec-fetch-site": site, origin } = req.headers;
  const ours = site !== undefined ? site === "same-origin" || site === "none" : origin === undefined || isOwnOrigin(req, origin);
  if (!ours) throw new Failure("CROSS_SITE_REQUEST");
  next();
};

/** Is it the host and port of the Host header? "null", which a sandboxed page sends, has none. */
export function isOwnOrigin(req: Request, origin: string): boolean {
  return (URL.canParse(origin) ? new URL(origin).host : undefined) === req.host?.toLowerCase();
}
