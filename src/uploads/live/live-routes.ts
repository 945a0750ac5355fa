import { Router, type RequestHandler } from "express";
import { z } from "zod";
import { allow, sendJson } from "../../http/answer-errors.ts";
import type { EventStream } from "../../http/event-stream.ts";
import { parseQuery } from "../../http/validate.ts";
import { RANGES, type History } from "./history.ts";
import type { Live } from "./live.ts";

const HistoryQuery = z.object({ range: z.enum(RANGES).default("15m") });

/** GET /api/live: the figures as they change; as JSON, once, for those who name it. GET /api/history: what the charts show. */
export function createLiveRouter({ live, stream, history }: { live: Live; stream: EventStream; history: History }): Router {
  const router = Router();

  router.route("/api/live")
    .get((async (req, res) => {
      if (!/^application\/json\b/.test(req.headers.accept ?? "")) return stream.open(req, res);
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, await live.latest());
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/api/history")
    .get((async (req, res) => {
      const { range } = parseQuery(HistoryQuery, req.query);
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, await history.history(range));
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}
