import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import type { Job } from "../../bench/load/job.ts";
import { runJob } from "../../bench/load/run-job.ts";

async function load(handle: RequestListener, job: Partial<Job>) {
  const server = createServer(handle).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    return await runJob({
      port: (server.address() as AddressInfo).port,
      clients: 2,
      request: { method: "PUT", path: "/x", headers: {}, body: "raw", sizeBytes: 1024 },
      expect: { status: 200 },
      warmUp: { requests: 0 },
      measure: { requests: 10 },
      ...job,
    }, () => {});
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test.each([
  ["small", 1024],
  ["smaller than a stamp", 5],
  ["of several pieces", 3 * 1_048_576 + 17],
])("bodies that are %s arrive whole and never twice the same", async (_, sizeBytes) => {
  const seen = new Set<string>();
  const sizes = new Set<number>();
  const result = await load((req, res) => {
    void buffer(req).then((body) => {
      sizes.add(body.length);
      seen.add(createHash("sha256").update(body).digest("hex"));
      res.end();
    });
  }, { request: { method: "PUT", path: "/x", headers: {}, body: "raw", sizeBytes } });
  expect(result).toMatchObject({ requests: 10, answered: 10, failures: 0 });
  expect([...sizes]).toEqual([sizeBytes]);
  expect(seen.size).toBe(10);
});

test.each([1024, 2 * 1_048_576])("a form of %i bytes is one a multipart parser reads", async (sizeBytes) => {
  const { default: express } = await import("express");
  const { default: multer } = await import("multer");
  const app = express();
  app.post("/x", multer().single("file"), (req, res) => void res.json({ size: req.file?.size, name: req.file?.originalname }));
  const result = await load(app, {
    request: { method: "POST", path: "/x", headers: {}, body: "multipart", sizeBytes },
    expect: { status: 200, text: `{"size":${sizeBytes},"name":"bench.bin"}` },
  });
  expect(result).toMatchObject({ answered: 10, failures: 0 });
});

test("another status, another text and a dead connection each count as a failure", async () => {
  const drained = (answer: Parameters<typeof load>[0]): RequestListener => (req, res) => req.resume().on("end", () => answer(req, res));
  const wrongStatus = await load(drained((_, res) => res.writeHead(500).end("broken")), {});
  expect(wrongStatus).toMatchObject({ requests: 0, failures: 10 });
  expect(wrongStatus.reasons[0]).toMatch(/^status 500: .*broken/s);
  const wrongText = await load(drained((_, res) => res.end("no")), { expect: { status: 200, text: "yes" } });
  expect(wrongText).toMatchObject({ requests: 0, failures: 10 });
  const cut = await load((req) => req.socket.destroy(), {});
  expect(cut).toMatchObject({ requests: 0, failures: 10 });
});

test("a server that refuses a large body before it has come is quoted", async () => {
  const result = await load((_, res) => {
    res.writeHead(507, { Connection: "close", "Content-Length": 4 }).end("full");
  }, { request: { method: "PUT", path: "/x", headers: {}, body: "raw", sizeBytes: 50 * 1_048_576 } });
  expect(result).toMatchObject({ requests: 0, failures: 10 });
  expect(result.reasons.every((reason) => reason === "status 507: full")).toBe(true);
});

test("a server that closes after each answer is connected to again", async () => {
  const result = await load((req, res) => {
    req.resume().on("end", () => res.setHeader("Connection", "close").end("ok"));
  }, {});
  expect(result).toMatchObject({ requests: 10, failures: 0 });
});

test("a timed stretch counts what was answered within it, and all in flight is answered", async () => {
  let handled = 0;
  const result = await load((req, res) => {
    handled++;
    req.resume().on("end", () => setTimeout(() => res.end("ok"), 20));
  }, { warmUp: { requests: 4 }, measure: { forMs: 1_000 } });
  expect(result.answered).toBe(handled);
  expect(result.requests).toBeGreaterThan(4);
  expect(result.requests).toBeLessThanOrEqual(100);
  expect(result.p50Ms).toBeGreaterThanOrEqual(19);
  expect(result.perSecond).toBeCloseTo((result.requests / result.elapsedMs) * 1000);
});

test("a paced load sends as often as asked, whatever is still unanswered", async () => {
  const result = await load((req, res) => {
    req.resume().on("end", () => setTimeout(() => res.end("ok"), 50));
  }, { clients: 64, pacePerSecond: 200, measure: { forMs: 500 } });
  expect(Math.abs(result.answered - result.elapsedMs / 5)).toBeLessThanOrEqual(2);
  expect(result.requests).toBeLessThan(result.answered); // those of the last moments were answered after it
});

test("where no connection is free, a request's time begins when it was due", async () => {
  const result = await load((req, res) => {
    req.resume().on("end", () => setTimeout(() => res.end("ok"), 50));
  }, { clients: 1, pacePerSecond: 100, measure: { requests: 10 } });
  expect(result).toMatchObject({ requests: 10, answered: 10, failures: 0 });
  expect(result.maxMs).toBeGreaterThan(300); // due after 100 ms, answered after 500
});
