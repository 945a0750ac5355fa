import { Router } from "express";
import { z } from "zod";
import { accountOf } from "../../accounts/authenticate.ts";
import { allow, sendJson } from "../../http/answer-errors.ts";
import { sameOrigin } from "../../http/same-origin.ts";
import { parseQuery } from "../../http/validate.ts";
import { describeDeadLetter, type DeadLetters } from "./dead-letters.ts";

const ListQuery = z.object({
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional(),
});

export function createDeadLettersRouter({ deadLetters }: { deadLetters: DeadLetters }): Router {
  const router = Router();

  router.route("/api/dead-letters")
    .get(async (req, res) => {
      const { limit, cursor } = parseQuery(ListQuery, req.query);
      const page = await deadLetters.list(accountOf(res), limit, cursor);
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, { dead_letters: page.deadLetters.map(describeDeadLetter), next_cursor: page.nextCursor });
    })
    .all(allow("GET", "HEAD"));

  router.route("/api/dead-letters/retry")
    .post(sameOrigin, async (_req, res) => {
      const { retried, withoutBytes } = await deadLetters.retryAll(accountOf(res));
      sendJson(res, 200, { retried, without_bytes: withoutBytes });
    })
    .all(allow("POST"));

  router.route("/api/dead-letters/:id")
    .delete(sameOrigin, async (req, res) => {
      await deadLetters.discard(accountOf(res), req.params.id as string);
      res.status(204).end();
    })
    .all(allow("DELETE"));

  router.route("/api/dead-letters/:id/retry")
    .post(sameOrigin, async (req, res) => {
      const id = req.params.id as string;
      const streamId = await deadLetters.retry(accountOf(res), id);
      sendJson(res, 202, { id, status: "accepted", stream_id: streamId, status_url: `/api/files/${id}/status` });
    })
    .all(allow("POST"));

  return router;
}
