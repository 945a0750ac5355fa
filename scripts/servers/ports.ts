/** Ports on the loopback address. */
import { randomInt } from "node:crypto";
import { connect, createServer } from "node:net";

/** Linux hands out 32768 and up to outgoing connections, which could take a port between choosing and binding. */
export const LOWEST_PORT = 20_000, HIGHEST_PORT = 32_000;

/** True when nothing listens on the port and it may be bound. */
export function isPortFree(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

/** The first of `preferred` that is free, else a random free one; `span` neighbours are free too. */
export async function findFreePort(preferred: number[] = [], span = 1): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = preferred[attempt] ?? randomInt(LOWEST_PORT, HIGHEST_PORT);
    const neighbours = Array.from({ length: span }, (_, offset) => isPortFree(port + offset));
    if ((await Promise.all(neighbours)).every(Boolean)) return port;
  }
  throw new Error(`No free port was found between ${LOWEST_PORT} and ${HIGHEST_PORT}.`);
}

/** True when something accepts connections there. */
export function isListening(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host });
    socket.once("connect", () => { socket.destroy(); resolve(true); });
    socket.once("error", () => resolve(false));
  });
}
