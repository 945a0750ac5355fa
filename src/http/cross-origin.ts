import type { Request, RequestHandler, Response } from "express";
import { Failure } from "../core/errors.ts";
import { isOwnOrigin } from "./same-origin.ts";

const PREFLIGHT_SECONDS = 86_400; // browsers ask again after two hours at the latest (Chromium), or a day (Firefox)

/**
 * Lets pages of other origins send here, and answers when their browsers ask beforehand (https://fetch.spec.whatwg.org/#http-cors-protocol).
 * A page of an origin that is not named is refused also where its browser would not ask: what it sends is not wanted.
 * Pages of our own origin and programs, which send no Origin, pass always. No credentials: nothing here looks at cookies.
 * @param origins  such as https://example.org, or "*" among them for all
 */
export function createCrossOrigin(origins: readonly string[], methods: readonly string[]) {
  const forAll = origins.includes("*");
  const named = new Set(origins);

  /** @throws Failure ORIGIN_NOT_ALLOWED */
  function admit(req: Request, res: Response): void {
    const { origin } = req.headers;
    if (!forAll) res.appendHeader("Vary", "Origin");
    if (origin === undefined) return;
    if (forAll) res.setHeader("Access-Control-Allow-Origin", "*");
    else if (named.has(origin)) res.setHeader("Access-Control-Allow-Origin", origin);
    else if (!isOwnOrigin(req, origin)) throw new Failure("ORIGIN_NOT_ALLOWED");
  }

  const preflight: RequestHandler = (req, res) => {
    admit(req, res);
    res.writeHead(204, {
      Allow: [...methods, "OPTIONS"].join(", "),
      "Access-Control-Allow-Methods": methods.join(", "),
      "Access-Control-Allow-Headers": "Content-Type",
      "Access-Control-Max-Age": PREFLIGHT_SECONDS,
    });
    res.end();
  };

  return { admit, preflight };
}
