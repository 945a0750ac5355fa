import { createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough, Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { createMeasure } from "../../src/objects/measure.ts";
import { collectUpTo } from "../../src/http/collect.ts";
import { restOf } from "../../src/uploads/intake.ts";

const BROKEN_OFF = expect.objectContaining({ code: "MALFORMED_REQUEST" });

async function drain(source: AsyncIterable<Uint8Array>): Promise<number> {
  let sizeBytes = 0;
  for await (const chunk of source) sizeBytes += chunk.length;
  return sizeBytes;
}

/** The first bytes, then the rest: what the inbox does with a large upload. */
async function takeIn(source: Readable, between: () => unknown, limitBytes = 1_000) {
  const { chunks, ended } = await collectUpTo(source, 4);
  await between();
  return ended ? "small" : drain(restOf(chunks, source, createMeasure(), limitBytes));
}

/** A request of an announced length, of which `sent` bytes arrive; and the means to cut it. */
async function arriving(sent: number, announced: number) {
  let arrived!: (req: IncomingMessage) => void;
  const incoming = new Promise<IncomingMessage>((resolve) => void (arrived = resolve));
  const server = createServer((req) => arrived(req));
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const client = request({ port: (server.address() as AddressInfo).port, method: "PUT", headers: { "Content-Length": announced } });
  client.on("error", () => {});
  client.write(Buffer.alloc(sent));
  const req = await incoming;
  return {
    req,
    async cut() {
      const closed = new Promise((resolve) => req.once("close", resolve));
      client.destroy();
      await closed;
      server.close();
    },
  };
}

describe("an upload that breaks off is never taken for a whole one", () => {
  test.each<[string, (source: PassThrough) => void]>([
    ["with an error", (source) => void source.destroy(new Error("aborted"))],
    ["without one", (source) => void source.destroy()],
  ])("%s, before a byte of it came", async (_how, cut) => {
    const source = new PassThrough();
    const collecting = collectUpTo(source, 4);
    cut(source);
    await expect(collecting).rejects.toEqual(BROKEN_OFF);
    await expect(collectUpTo(source, 4)).rejects.toEqual(BROKEN_OFF); // and asked again
  });

  test.each<[string, (source: PassThrough) => void]>([
    ["with an error", (source) => void source.on("error", () => {}).destroy(new Error("aborted"))],
    ["without one", (source) => void source.destroy()],
  ])("%s, between its beginning and the rest", async (_how, cut) => {
    const source = new PassThrough();
    source.write("beginning");
    await expect(takeIn(source, () => cut(source))).rejects.toEqual(BROKEN_OFF);
  });

  test("in the middle of the rest", async () => {
    const source = new PassThrough();
    source.write("beginning");
    const taking = takeIn(source, () => source.write("more"));
    setImmediate(() => source.destroy());
    await expect(taking).rejects.toEqual(BROKEN_OFF);
  });

  test.each([
    ["before its beginning was looked at", 0, 100],
    ["between its beginning and the rest", 9, 100],
    ["between its beginning and the rest, one byte before its end", 99, 100],
  ])("as a request of which the client goes away %s", async (_when, sent, announced) => {
    const { req, cut } = await arriving(sent, announced);
    if (sent === 0) {
      await cut();
      await expect(collectUpTo(req, 4)).rejects.toEqual(BROKEN_OFF);
    } else {
      await expect(takeIn(req, cut)).rejects.toEqual(BROKEN_OFF);
    }
  });
});

describe("an upload that arrives whole", () => {
  test("is small up to the size that is kept in memory, however it is cut", async () => {
    expect(await collectUpTo(Readable.from([Buffer.from("ab"), Buffer.from("cd")], { objectMode: false }), 4)).toMatchObject({ sizeBytes: 4, ended: true });
    expect(await collectUpTo(Readable.from([Buffer.from("abcde")], { objectMode: false }), 4)).toMatchObject({ sizeBytes: 5, ended: false });
    expect(await collectUpTo(Readable.from([], { objectMode: false }), 4)).toEqual({ chunks: [], sizeBytes: 0, ended: true });
  });

  test("is measured with its beginning, which is given on first", async () => {
    const source = Readable.from([Buffer.from("abcde"), Buffer.from("fgh")], { objectMode: false });
    expect(await takeIn(source, () => {})).toBe(8);
  });

  test("is refused as soon as it passes the limit, and its stream is left open for the answer", async () => {
    const source = new PassThrough();
    source.write("beginning");
    const taking = takeIn(source, () => source.write("more"), 12);
    await expect(taking).rejects.toMatchObject({ code: "FILE_TOO_LARGE" });
    expect(source.destroyed).toBe(false);
  });
});
