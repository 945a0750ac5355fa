import { Unavailable } from "../core/errors.ts";
import { createTurns } from "../core/turns.ts";
import { within } from "../core/within.ts";
import type { Inbox } from "./inbox.ts";
import type { Manifest } from "./messages.ts";

const AT_ONCE = 50; // of one list, records read side by side
const MOST_UNDER_WAY = 500; // of all of them, those that are left behind included: a silent bucket is given up after a hundred seconds
/** Whoever looks at a list waits for the inbox no longer than for the database. */
const INBOX_BUDGET_MS = 3_000;

/** Looks into the inbox for people who wait. What it does not say in time is not known. */
export function createInboxGlance({ inbox, budgetMs = INBOX_BUDGET_MS }: { inbox: Pick<Inbox, "findManifest" | "findRetriable">; budgetMs?: number }) {
  const underWay = new Map<string, { since: number; answer: Promise<Manifest | undefined> }>();

  /**
   * Which of the uploads can be tried again, as far as it is known when the time for all of them together is over; null: it
   * is not. What is still under way then goes on, for who asks next.
   */
  async function retriable(ownerId: string, uploadIds: readonly string[]): Promise<(boolean | null)[]> {
    const known = uploadIds.map((): boolean | null => null);
    const inTurn = createTurns(AT_ONCE);
    let isOver = false;
    const looking = Promise.all(uploadIds.map((id, i) => inTurn(async () => {
      if (isOver) return;
      const manifest = await look(`retriable ${id}`, () => inbox.findRetriable(id)).catch(orUnknown);
      known[i] = manifest === null ? null : manifest?.owner_id === ownerId;
    })));
    try {
      await within(budgetMs, "inbox", looking).catch(orUnknown);
      return [...known];
    } finally {
      isOver = true;
    }
  }

  /** For who is about to look into it under a lock that others wait for. @throws Unavailable when it does not answer in time */
  async function assertAnswers(uploadId: string): Promise<void> {
    await within(budgetMs, "inbox", look(`manifest ${uploadId}`, () => inbox.findManifest(uploadId)));
  }

  /** One look at a time at the same thing; nobody waits for one that was given up already. */
  async function look(what: string, read: () => Promise<Manifest | undefined>): Promise<Manifest | undefined> {
    const before = underWay.get(what);
    if (before && performance.now() - before.since < budgetMs) return before.answer;
    if (before || underWay.size >= MOST_UNDER_WAY) throw new Unavailable("inbox", { cause: "it has not answered others yet" });
    const answer = read().finally(() => underWay.delete(what));
    underWay.set(what, { since: performance.now(), answer });
    return answer;
  }

  return { retriable, assertAnswers };
}

function orUnknown(error: unknown): null {
  if (error instanceof Unavailable) return null;
  throw error;
}
