import { bitsOf, dayOf, quarterOf } from "./quarters.ts";
import type { ActiveUsers } from "./queries.ts";
import type { QuarterFigures } from "./rollup.ts";

/** What is known to be in the database need not be written again; most users of a busy quarter were there before. */
const MOST_KNOWN = 200_000; // about 20 MB, of two generations each
const FORGET_AFTER_MS = 60_000;
/** Older figures may be dropped by their retention, which nobody here hears of. */
const REMEMBER_QUARTERS = 96;

/**
 * Users by the quarters of a day in which they did something, and the memory of those that the database has. It is short, and is
 * given up whenever a transaction fails or the server is another one: after a failover or a restore it may know less.
 */
export function createActiveUsers({ now = Date.now }: { now?: () => number } = {}) {
  let [young, old] = [new Set<string>(), new Set<string>()];
  let turnedAt = now();
  let server: string | undefined;

  /** What has to be written. @param keys  filled with what to remember, or to remember for longer, once that is committed */
  function unknownOf(figures: readonly QuarterFigures[], keys: string[]): ActiveUsers[] {
    growOld();
    const sites = new Map<string, { siteId: string; day: string; users: Map<string, number[]> }>();
    for (const { siteId, quarter, users } of figures) {
      const day = dayOf(quarter);
      let found = sites.get(day + siteId);
      if (!found) sites.set(day + siteId, (found = { siteId, day, users: new Map() }));
      for (const user of users) {
        const key = `${quarter} ${user}\0${siteId}`; // either may have blanks in it
        if (young.has(key)) continue;
        keys.push(key);
        if (old.has(key)) continue;
        const quarters = found.users.get(user);
        if (quarters) quarters.push(quarter);
        else found.users.set(user, [quarter]);
      }
    }
    return [...sites.values()].flatMap(({ siteId, day, users }) => grouped(users).map((group) => ({ siteId, day, ...group })));
  }

  /** @param of  the server that has them: one recorder may commit on the old one while another has seen the new one */
  function remember(keys: readonly string[], figures: readonly QuarterFigures[], of: string): void {
    if (of !== server) return;
    const oldest = quarterOf(now()) - REMEMBER_QUARTERS;
    if (figures.some(({ quarter }) => quarter <= oldest)) return; // rare: the whole batch is not remembered then
    if (keys.length > MOST_KNOWN) return;
    if (young.size + keys.length > MOST_KNOWN) turn();
    for (const key of keys) young.add(key);
  }

  function growOld(): void {
    const ageMs = now() - turnedAt;
    if (ageMs > FORGET_AFTER_MS) turn();
    if (ageMs > 2 * FORGET_AFTER_MS) turn(); // nothing came for long: all of it is old
  }

  function turn(): void {
    [young, old] = [new Set(), young];
    turnedAt = now();
  }

  /** To be told, before anything is looked up, which server it is: one that was started since may know less than the one before. */
  function ofServer(name: string): void {
    if (name !== server) forget();
    server = name;
  }

  function forget(): void {
    [young, old] = [new Set(), new Set()];
  }

  return { unknownOf, remember, ofServer, forget };
}

export type KnownUsers = ReturnType<typeof createActiveUsers>;

/** Users who did something in the same quarters go together. */
function grouped(users: ReadonlyMap<string, readonly number[]>): { quarters: string; users: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const [user, quarters] of users) {
    const key = quarters.join(" ");
    const found = groups.get(key);
    if (found) found.push(user);
    else groups.set(key, [user]);
  }
  return [...groups].map(([key, together]) => ({ quarters: bitsOf(key.split(" ").map(Number)), users: together }));
}
