import { Unavailable } from "../core/errors.ts";
import { orNull } from "../core/or-null.ts";
import { createTurns } from "../core/turns.ts";
import { within } from "../core/within.ts";
import type { Inbox } from "./inbox.ts";
import type { Manifest } from "./messages.ts";

const AT_ONCE = 50; // of one list, records read side by side
const MOST_UNDER_WAY = 500; // of all of them, those that are left behind included: a silent bucket is given up after a hundred seconds
/** Whoever looks at a list waits for the inbox no longer than for the database. */
const INBOX_BUDGET_MS = 3_000;

interface Look {
  answer: Promise<Manifest | undefined>;
  /** By whoever began it, or waited for it, and went away without an answer. */
  givenUp: boolean;
}

/** Somebody who waits, and what for. */
interface Waiting {
  looks: Look[];
  isOver: boolean;
}

/** Looks into the inbox for people who wait. What it does not say in time is not known. */
export function createInboxGlance({ inbox, budgetMs = INBOX_BUDGET_MS }: { inbox: Pick<Inbox, "findManifest" | "findRetriable">; budgetMs?: number }) {
  const underWay = new Map<string, Look>();

  /**
   * Which of the uploads can be tried again, as far as it is known when the time for all of them together is over; null: it
   * is not. What is still under way then goes on, for who asks next.
   */
  async function retriable(ownerId: string, uploadIds: readonly string[]): Promise<(boolean | null)[]> {
    const known = uploadIds.map((): boolean | null => null);
    const inTurn = createTurns(AT_ONCE);
    await orNull(inTime((waiting) => Promise.all(uploadIds.map((id, i) => inTurn(async () => {
      if (waiting.isOver) return;
      const manifest = await orNull(look(`retriable ${id}`, () => inbox.findRetriable(id), waiting));
      known[i] = manifest === null ? null : manifest?.owner_id === ownerId;
    })))));
    return [...known];
  }

  /** For who is about to look into it under a lock that others wait for. @throws Unavailable when it does not answer in time */
  async function assertAnswers(uploadId: string): Promise<void> {
    await inTime((waiting) => look(`manifest ${uploadId}`, () => inbox.findManifest(uploadId), waiting));
  }

  /** What is still under way when it is over is given up; what was answered is under way no more. @throws Unavailable, and what the work throws */
  async function inTime<T>(work: (waiting: Waiting) => Promise<T>): Promise<T> {
    const waiting: Waiting = { looks: [], isOver: false };
    try {
      return await within(budgetMs, "inbox", work(waiting));
    } finally {
      waiting.isOver = true;
      for (const each of waiting.looks) each.givenUp = true;
    }
  }

  /** One look at a time at the same thing; nobody waits for one that was given up already. */
  async function look(what: string, read: () => Promise<Manifest | undefined>, { looks }: Waiting): Promise<Manifest | undefined> {
    const before = underWay.get(what);
    if (before?.givenUp || (!before && underWay.size >= MOST_UNDER_WAY)) throw new Unavailable("inbox", { cause: "it has not answered others yet" });
    const found = before ?? begin(what, read);
    looks.push(found);
    return found.answer;
  }

  function begin(what: string, read: () => Promise<Manifest | undefined>): Look {
    const begun = { answer: read().finally(() => underWay.delete(what)), givenUp: false };
    underWay.set(what, begun);
    return begun;
  }

  return { retriable, assertAnswers };
}
