import { randomInt } from "node:crypto";
import { findFreePort } from "../../scripts/servers/ports.ts";

/** Of the ports that scripts/servers/ports.ts chooses from, a part for each of the processes that run tests at once. */
const LOWEST = 20_000, WIDTH = 3_000, PARTS = 4;

const lowest = LOWEST + WIDTH * (Number(process.env["VITEST_POOL_ID"] ?? 0) % PARTS);
let next = randomInt(WIDTH);

/** A free port that no other test is given, also while nothing listens on it: its server may be bound later, or die and come back. */
export function findOwnPort(): Promise<number> {
  return findFreePort(Array.from({ length: 100 }, () => lowest + (next++ % WIDTH)));
}
