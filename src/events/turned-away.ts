import type { Clock } from "../core/clock.ts";
import { Failure, Unavailable, type FailureCode } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { createRefusals } from "../http/refusals.ts";

/** Refusals with no more than that between them are one spell. */
const SPELL_MS = 3_600_000;

/** Some refusals, one soon after the other. */
export interface Spell {
  since: Date;
  requests: number;
  last_at: Date;
  last_code: FailureCode;
}

export type TurnedAway = ReturnType<typeof createTurnedAway>;

/**
 * Counts requests that were refused for no fault of their events: for want of room or of a dependency, and, apart from these, over
 * the quota. How many events they had is not known, as most are refused before their body is read.
 */
export function createTurnedAway({ clock, log }: { clock: Clock; log: Log }) {
  const note = createRefusals((code: FailureCode, refused) => log.warn({ code, refused }, "the door refuses events"));
  let [refused, overQuota] = [0, 0];
  let spell: Spell | undefined;

  /** @returns the error */
  function counted(error: unknown): unknown {
    if (error instanceof Unavailable) refuse("UNAVAILABLE"); // the log has it with its cause
    else if (error instanceof Failure && error.code === "TOO_MANY_REQUESTS") overQuota++;
    else if (error instanceof Failure && error.status === 503) {
      refuse(error.code);
      note(error.code);
    }
    return error;
  }

  function refuse(code: FailureCode): void {
    const now = clock.now();
    refused++;
    if (!spell || isOver(spell, now)) spell = { since: now, requests: 0, last_at: now, last_code: code };
    [spell.requests, spell.last_at, spell.last_code] = [spell.requests + 1, now, code];
  }

  /** Since the start of this process. */
  function all(): { refused: number; overQuota: number; spell: Spell | undefined } {
    return { refused, overQuota, spell: spell && { ...spell } };
  }

  return { counted, all };
}

export function isOver({ last_at }: Spell, now: Date): boolean {
  return now.getTime() - last_at.getTime() > SPELL_MS;
}
