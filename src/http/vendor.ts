import { join } from "node:path";
import { Router } from "express";
import { Failure } from "../core/errors.ts";

/** Browser libraries, as their packages bring them: the name under /assets/vendor/, and where it lies in node_modules. */
const VENDOR: Record<string, string> = {
  "tus.min.js": "tus-js-client/dist/tus.min.js",
  "uPlot.iife.min.js": "uplot/dist/uPlot.iife.min.js",
  "uPlot.min.css": "uplot/dist/uPlot.min.css",
};

/** Serves what the table names and nothing else of node_modules. @param maxAgeMs how long browsers may keep it */
export function createVendor(packagesFolder: string, maxAgeMs: number): Router {
  const router = Router();
  router.use((req, res) => {
    const file = Object.hasOwn(VENDOR, req.path.slice(1)) ? VENDOR[req.path.slice(1)] : undefined;
    if (file === undefined) throw new Failure("NOT_FOUND");
    res.sendFile(join(packagesFolder, file), { maxAge: maxAgeMs });
  });
  return router;
}
