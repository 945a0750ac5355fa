import { randomInt } from "node:crypto";
import { findFreePort, HIGHEST_PORT, LOWEST_PORT } from "../../scripts/servers/ports.ts";

/** Each of the processes that run tests at once has a part of the ports. */
const PARTS = 4;
const WIDTH = (HIGHEST_PORT - LOWEST_PORT) / PARTS;

const lowest = LOWEST_PORT + WIDTH * (Number(process.env["VITEST_POOL_ID"] ?? 0) % PARTS);
let next = randomInt(WIDTH);

/** A free port that no other test is given, also while nothing listens on it: its server may be bound later, or die and come back. */
export function findOwnPort(): Promise<number> {
  return findFreePort(Array.from({ length: 100 }, () => lowest + (next++ % WIDTH)));
}
