import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Router, type RequestHandler } from "express";
import { allow } from "../../http/answer-errors.ts";

const MAX_AGE_SECONDS = 3_600; // its name carries no version: pages have a new release within an hour

/**
 * GET /tracker.js, for pages of other origins: read once, compressed once.
 * @param file  where it lies, public/tracker.js
 */
export function createTrackerRouter(file: string): Router {
  const script = readFileSync(file);
  const compressed = gzipSync(script, { level: 9 });
  const etag = `W/"${createHash("sha256").update(script).digest("base64url").slice(0, 22)}"`;
  const router = Router();

  router.route("/tracker.js")
    .get(((req, res) => {
      res.set({
        "Content-Type": "text/javascript; charset=utf-8",
        "Cache-Control": `public, max-age=${MAX_AGE_SECONDS}`,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
        Vary: "Accept-Encoding",
        ETag: etag,
      });
      if (req.fresh) return void res.status(304).end();
      const body = req.acceptsEncodings(["gzip", "identity"]) === "gzip" ? compressed : script;
      if (body === compressed) res.setHeader("Content-Encoding", "gzip");
      res.setHeader("Content-Length", body.length);
      res.end(req.method === "HEAD" ? undefined : body);
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}
