import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Router } from "express";
import { allow } from "../http/answer-errors.ts";

// dist/main/openapi.js and src/main/openapi.ts lie equally deep under the folder that holds docs.
const DOCUMENT = fileURLToPath(new URL("../../docs/openapi.json", import.meta.url));
const MAX_AGE_SECONDS = 300; // as the pages' assets: a new release is seen within five minutes

/** GET /openapi.json: docs/openapi.json, which a test holds against the routes. @throws Error when the file is not there */
export function createOpenApiRouter(): Router {
  const document = readFileSync(DOCUMENT);
  const router = Router();

  router.route("/openapi.json")
    .get((req, res) => {
      res.writeHead(200, {
        "Content-Type": "application/json; charset=utf-8", "Content-Length": document.length, "Cache-Control": `public, max-age=${MAX_AGE_SECONDS}`,
      });
      res.end(req.method === "HEAD" ? undefined : document);
    })
    .all(allow("GET", "HEAD"));

  return router;
}
