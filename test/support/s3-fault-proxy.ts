import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { randomFrom } from "../../scripts/random.ts";

export interface S3Faults {
  /** 0 to 1: so many requests are answered 500 or 503, and never reach the server. */
  failShare?: number;
  /** 0 to 1: so many requests are carried out by the server, and then the connection is reset instead of answered. */
  loseReplyShare?: number;
  /** Requests are taken and never answered, whatever comes later. */
  hang?: boolean;
  /** Of each request and of each answer. */
  bytesPerSecond?: number;
  /** Connections are reset, open ones and new ones. */
  down?: boolean;
  /** Which requests the shares, `hang` and `bytesPerSecond` are for; the rest pass. Left out: all. */
  only?: (method: string, path: string) => boolean;
}

/** What was done so far: a test of a fault has to see that it was there. */
export interface S3FaultCounts {
  passed: number;
  failed: number;
  lost: number;
  hung: number;
}

const SLICE_MS = 50;

/**
 * An HTTP proxy in front of an S3 server. Requests pass as they are, the Host header too, because all of that is signed;
 * the server must not mind a Host with another port (Ceph and MinIO do not).
 * @param endpoint  such as http://127.0.0.1:9000
 * @param seed      of the choices that the shares make
 */
export async function openS3FaultProxy(endpoint: string, { seed = 1 }: { seed?: number } = {}) {
  const { hostname, port } = new URL(endpoint);
  const agent = new Agent({ keepAlive: true });
  const random = randomFrom(seed);
  const counts: S3FaultCounts = { passed: 0, failed: 0, lost: 0, hung: 0 };
  let faults: S3Faults = {};

  const sockets = new Set<Socket>();
  const server = createServer((req, res) => {
    const { socket } = req; // null later, when the connection is gone
    void answer(req, res).catch(() => socket.resetAndDestroy());
  });
  // As patient as the peers: who gives up, and when, is theirs to say.
  Object.assign(server, { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 60_000 });
  server.on("connection", (socket) => {
    if (faults.down) return socket.resetAndDestroy();
    sockets.add(socket);
    socket.on("error", () => {}).once("close", () => sockets.delete(socket));
  });

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { method = "", url = "", socket } = req;
    const isMeant = faults.only?.(method, url) ?? true;
    if (isMeant && faults.hang) return void counts.hung++;
    if (isMeant && random() < (faults.failShare ?? 0)) return refuse(req, res, random() < 0.5);
    const isLost = isMeant && random() < (faults.loseReplyShare ?? 0);

    const reply = await forward(req);
    if (isLost) {
      for await (const _ of reply); // the server has done all of it
      counts.lost++;
      socket.resetAndDestroy();
      return;
    }
    counts.passed++;
    res.writeHead(reply.statusCode!, reply.statusMessage, reply.rawHeaders);
    await pipeline(reply, slowed(req), res);
  }

  async function forward(req: IncomingMessage): Promise<IncomingMessage> {
    // Given as a list, headers are sent as they are, and none is added.
    const onward = request({ agent, host: hostname, port, method: req.method, path: req.url, headers: req.rawHeaders });
    req.once("close", () => req.complete || onward.destroy());
    const reply = new Promise<IncomingMessage>((resolve, reject) => onward.once("response", resolve).once("error", reject));
    // A server may answer before it has read everything, and close.
    await Promise.all([pipeline(req, slowed(req), onward).catch(() => {}), reply]);
    return reply;
  }

  async function refuse(req: IncomingMessage, res: ServerResponse, isBusy: boolean): Promise<void> {
    for await (const _ of req);
    counts.failed++;
    const [status, code] = isBusy ? [503, "SlowDown"] : [500, "InternalError"];
    const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>A fault made by a test</Message></Error>`;
    res.writeHead(status as number, { "Content-Type": "application/xml", "Content-Length": Buffer.byteLength(body) });
    res.end(req.method === "HEAD" ? undefined : body);
  }

  /** As fast as the fault of the moment allows: what is under way slows down and speeds up with it. */
  function slowed({ method = "", url = "" }: IncomingMessage): Transform {
    return new Transform({
      async transform(chunk: Buffer, _encoding, done) {
        for (let rest = chunk; rest.length > 0; ) {
          const rate = (faults.only?.(method, url) ?? true) ? faults.bytesPerSecond : undefined;
          const slice = rate ? rest.subarray(0, Math.max(1, Math.floor((rate * SLICE_MS) / 1000))) : rest;
          this.push(slice);
          rest = rest.subarray(slice.length);
          if (rate) await sleep((slice.length / rate) * 1000);
          if (this.destroyed) return;
        }
        done();
      },
    });
  }

  function set(next: S3Faults): void {
    faults = next;
    if (next.down) for (const socket of sockets) socket.resetAndDestroy();
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    set,
    counts: (): S3FaultCounts => ({ ...counts }),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      set({ down: true });
      agent.destroy();
      await closed;
    },
  };
}
