import type { Request, Response } from "express";
import { Failure } from "../core/errors.ts";
import { addressOf } from "./client-address.ts";
import { createPlaces } from "./places.ts";

export interface EventStreamSettings {
  /** Of open streams; one address has at most as many as are free. */
  mostStreams: number;
  heartbeatMs?: number;
  /** A reader for whom more than this waits in our memory is dropped. */
  mostWaitingBytes?: number;
  /** The first stream was opened. */
  onFirst?: () => void;
  /** The last stream was closed. */
  onLast?: () => void;
}

const HEARTBEAT_MS = 15_000; // common proxies give up an answer in which nothing moves after 30 to 60 s
const MOST_WAITING_BYTES = 128 * 1024;
const RETRY_MS = 2_000;
const RETRY_SPREAD_MS = 3_000; // a thousand browsers do not come back in the same moment
const AT_ONCE = 50; // written to in one turn of the event loop: some 2 ms
const CLOSE_WITHIN_MS = 1_000; // who takes nothing would keep the server from closing
const ID = /^\d{1,15}$/;

export type EventStream = ReturnType<typeof createEventStream>;

/**
 * Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), the same for everybody: a message is
 * encoded once, and written to all streams, some at a time, so that whoever else waits for this process waits for few of them.
 * An id is the time a message was made, in milliseconds since 1970. So it means something to every process whose clock is
 * about right: whoever comes back, here or elsewhere, gets the last message of each event that is newer than what they have.
 */
export function createEventStream({ mostStreams, heartbeatMs = HEARTBEAT_MS, mostWaitingBytes = MOST_WAITING_BYTES, onFirst, onLast }: EventStreamSettings) {
  const places = createPlaces({ count: mostStreams, memoryBytes: Number.POSITIVE_INFINITY });
  /** Each with what forgets it. */
  const streams = new Map<Response, () => void>();
  const latest = new Map<string, { id: number; message: Buffer }>();
  const counted = { encoded: 0, dropped: 0 };
  let lastId = 0;
  let closed = false;
  let heartbeat: NodeJS.Timeout | undefined;

  /** Answers with the stream, until its reader goes or is dropped. @throws Failure TOO_BUSY, SHUTTING_DOWN */
  function open(req: Request, res: Response): void {
    if (closed) throw new Failure("SHUTTING_DOWN");
    const address = addressOf(req);
    const takenBy = places.takenBy(address);
    if (takenBy === "all") throw new Failure("TOO_BUSY", "As many live views are open as the server may have. Ask again and again instead.");
    if (takenBy === "address") throw new Failure("TOO_BUSY", "As many live views are open from your address as one may have. Ask again and again instead.");
    res.writeHead(200, {
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-store, no-transform", // a proxy that compresses would hold messages back
      "X-Accel-Buffering": "no", // nginx
    });
    if (req.method === "HEAD") return void res.end();
    const { socket } = req;
    if (socket.destroyed) return; // nobody would ever tell that it is gone
    const giveBack = places.take(address);
    const forget = () => {
      res.off("close", forget);
      socket.off("close", forget);
      if (!streams.delete(res)) return;
      giveBack();
      if (streams.size === 0) stop();
    };
    res.once("close", forget);
    socket.once("close", forget); // one that waits behind another answer on its connection hears of nothing else
    streams.set(res, forget);
    if (streams.size === 1) start();
    res.write(`retry: ${RETRY_MS + Math.floor(Math.random() * RETRY_SPREAD_MS)}\n\n`);
    const seen = readId(req.headers["last-event-id"]);
    const unseen = [...latest.values()].filter(({ id }) => id > seen).sort((one, other) => one.id - other.id);
    for (const { message } of unseen) write(res, message);
  }

  function start(): void {
    heartbeat = setInterval(() => void toAll(Buffer.from(":\n\n")), heartbeatMs).unref();
    onFirst?.();
  }

  /** Nobody is there: what is kept grows old, and whoever comes next is not to be shown it. */
  function stop(): void {
    clearInterval(heartbeat);
    latest.clear();
    onLast?.();
  }

  /** To everybody, and kept for those who come. @returns when it is written to all; who is slower than others waits in vain */
  function send(event: string, data: unknown): Promise<void> {
    lastId = Math.max(lastId + 1, Date.now());
    const message = Buffer.from(`id: ${lastId}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    counted.encoded++;
    latest.set(event, { id: lastId, message });
    return toAll(message);
  }

  async function toAll(message: Buffer): Promise<void> {
    let written = 0;
    const readers = [...streams.keys()]; // who comes meanwhile has it from what is kept
    for (const res of readers) {
      if (streams.has(res)) write(res, message);
      if (++written % AT_ONCE === 0) await new Promise(setImmediate);
    }
  }

  function write(res: Response, message: Buffer): void {
    if (res.writableEnded) return;
    if (res.writableLength > mostWaitingBytes) {
      counted.dropped++;
      streams.get(res)?.();
      res.destroy(); // its browser comes back by itself
    } else {
      res.write(message);
    }
  }

  /** Ends all streams, for good; those that take nothing are torn. */
  function close(): void {
    closed = true;
    for (const res of streams.keys()) res.end();
    setTimeout(() => [...streams.keys()].forEach((res) => res.destroy()), CLOSE_WITHIN_MS).unref();
  }

  return { open, send, close, count: () => streams.size, counted: () => ({ ...counted }) };
}

/** What is no id of ours was never sent: nothing is known to be seen. */
function readId(header: string | string[] | undefined): number {
  return typeof header === "string" && ID.test(header) ? Number(header) : 0;
}
