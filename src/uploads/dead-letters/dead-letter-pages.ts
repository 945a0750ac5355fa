import { Router, type Response } from "express";
import { z } from "zod";
import { accountOf } from "../../accounts/authenticate.ts";
import { Failure, Unavailable, type FailureCode } from "../../core/errors.ts";
import { isId } from "../../core/ids.ts";
import { allow } from "../../http/answer-errors.ts";
import { pageHeaders } from "../../http/page-headers.ts";
import { sameOrigin } from "../../http/same-origin.ts";
import { adviceFor } from "./dead-letter-advice.ts";
import type { DeadLetters, ListedDeadLetter } from "./dead-letters.ts";

const PER_PAGE = 25;
const RETRY_AFTER_SECONDS = 5;

/** What the address says was done just now. Words and numbers of ours only; anything else in it is as if it were not there. */
const Notice = z.object({
  done: z.enum(["retried", "retried-all", "discarded", "gone", "without-bytes", "unavailable"]).optional().catch(undefined),
  id: z.string().refine(isId).optional().catch(undefined),
  retried: z.coerce.number().int().nonnegative().catch(0),
  without: z.coerce.number().int().nonnegative().catch(0),
  cursor: z.string().max(200).optional().catch(undefined),
});

const PAGE = { page: "dead-letters", title: "Dead letters" };

/** Where a person sees what failed, and decides. Works without JavaScript: each button is a form of its own. */
export function createDeadLetterPagesRouter({ deadLetters }: { deadLetters: DeadLetters }): Router {
  const router = Router();

  router.route("/dead-letters")
    .get(pageHeaders, async (req, res) => {
      const notice = Notice.parse(req.query);
      res.setHeader("Cache-Control", "no-store");
      try {
        const page = await deadLetters.list(accountOf(res), PER_PAGE, notice.cursor);
        res.render("dead-letters", { ...PAGE, notice, letters: page.deadLetters.map(advised), nextCursor: page.nextCursor, unavailable: false });
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        res.status(503).setHeader("Retry-After", RETRY_AFTER_SECONDS);
        res.render("dead-letters", { ...PAGE, notice, letters: [], nextCursor: null, unavailable: true });
      }
    })
    .all(allow("GET", "HEAD"));

  router.route("/dead-letters/retry")
    .post(pageHeaders, sameOrigin, (_req, res) => act(res, undefined, async () => {
      const { retried, withoutBytes } = await deadLetters.retryAll(accountOf(res));
      return { done: "retried-all", retried: String(retried), without: String(withoutBytes) };
    }))
    .all(allow("POST"));

  router.route("/dead-letters/:id/retry")
    .post(pageHeaders, sameOrigin, (req, res) => act(res, req.query.cursor, async () => {
      const id = req.params.id as string;
      await deadLetters.retry(accountOf(res), id);
      return { done: "retried", id };
    }))
    .all(allow("POST"));

  router.route("/dead-letters/:id/discard")
    .get(pageHeaders, async (req, res) => {
      const letter = await deadLetters.find(accountOf(res), req.params.id as string);
      res.setHeader("Cache-Control", "no-store");
      res.render("discard", { ...PAGE, title: "Discard an upload", letter: advised(letter), cursor: Notice.parse(req.query).cursor });
    })
    .post(pageHeaders, sameOrigin, (req, res) => act(res, req.query.cursor, async () => {
      await deadLetters.discard(accountOf(res), req.params.id as string);
      return { done: "discarded" };
    }))
    .all(allow("GET", "HEAD", "POST"));

  return router;
}

function advised(letter: ListedDeadLetter) {
  return { ...letter, advice: adviceFor(letter.code) };
}

const EXPECTED: Partial<Record<FailureCode, string>> = { DEAD_LETTER_NOT_FOUND: "gone", DEAD_LETTER_WITHOUT_BYTES: "without-bytes" };

/** Does it, and leads back to the list, so that reloading does nothing again. What could not be done is said there, too. */
async function act(res: Response, cursor: unknown, action: () => Promise<Record<string, string>>): Promise<void> {
  const outcome = await action().catch((error: unknown) => {
    const expected = error instanceof Failure ? EXPECTED[error.code] : error instanceof Unavailable ? "unavailable" : undefined;
    if (!expected) throw error;
    return { done: expected };
  });
  res.redirect(303, `/dead-letters?${new URLSearchParams({ ...outcome, ...(typeof cursor === "string" && { cursor }) })}`);
}
