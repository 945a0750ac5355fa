import { HeadObjectCommand } from "@aws-sdk/client-s3";
import { createHash, randomBytes } from "node:crypto";
import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/objects/object-store.ts";
import { sha256Of } from "../../src/objects/measure.ts";
import { openS3Store, type S3Settings } from "../../src/objects/s3.ts";
import { createVerifier } from "../../src/objects/verify.ts";
import { partSizeFor } from "../../src/objects/s3-upload.ts";
import { all, hashOf, inPieces } from "./bytes.ts";
import { openBucket, S3_MISSING } from "./s3-bucket.ts";

const MIB = 1024 ** 2;
const SECRET = "do-not-tell-9f8e7d6c";
const QUICK = { connectTimeoutMs: 300, requestTimeoutMs: 300, idleTimeoutMs: 300, maxAttempts: 2 };
const NOWHERE: S3Settings = {
  dependency: "storage", bucket: "b", region: "us-east-1", endpoint: "http://127.0.0.1:9", forcePathStyle: true,
  accessKeyId: "AKIDNOBODY", secretAccessKey: SECRET, partSizeBytes: 5 * MIB, ...QUICK,
};

let ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.reverse()) await end();
  ends = [];
});

function open(settings: S3Settings): ObjectStore {
  const store = openS3Store(settings);
  ends.push(() => store.close());
  return store;
}

/** A server on a free port that does with each connection what it is told. */
async function listen(onConnection: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** All calls fail with Unavailable, within seconds, and say nothing secret. */
async function expectUnavailable(store: ObjectStore): Promise<void> {
  const calls = [
    () => store.put("k", Buffer.from("v")), () => store.put("k", inPieces(randomBytes(6 * MIB), MIB), { ifAbsent: true }),
    () => store.head("k"), () => store.read("k"), () => store.read("k", { start: 1 }), () => store.readWhole("k"),
    () => store.remove(["k"]), () => store.remove(["k", "l"]), () => store.removeIf("k", () => true), () => store.replaceIf("k", () => true, Buffer.from("v")), () => store.list("", { limit: 1 }), () => store.ping(),
  ];
  const startedAt = Date.now();
  const errors = await Promise.all(calls.map((call) => call().then(() => "no error", (error: unknown) => error)));
  expect(Date.now() - startedAt).toBeLessThan(5_000);
  for (const error of errors) {
    expect(error).toBeInstanceOf(Unavailable);
    expect(error).toMatchObject({ dependency: "storage", full: false });
    const { message, stack, cause } = error as Unavailable;
    expect(cause).toBeInstanceOf(Error);
    expect(JSON.stringify([message, stack, String(cause), { ...(cause as Error) }])).not.toMatch(/do-not-tell|AKIDNOBODY|Signature=/);
  }
}

describe("a server that is not there", () => {
  test("refuses connections", async () => {
    await expectUnavailable(open(NOWHERE));
  });

  test("takes connections and never answers", async () => {
    await expectUnavailable(open({ ...NOWHERE, endpoint: await listen(() => {}) }));
  });

  test("hangs up", async () => {
    await expectUnavailable(open({ ...NOWHERE, endpoint: await listen((socket) => socket.destroy()) }));
  });

  test("is out of order", async () => {
    const answer = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n";
    await expectUnavailable(open({ ...NOWHERE, endpoint: await listen((socket) => socket.on("data", () => socket.write(answer))) }));
  });

  test("stops in the middle of an answer", async () => {
    const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: 1000\r\n\r\n<?xml";
    const endpoint = await listen((socket) => socket.once("data", () => socket.write(answer)));
    const store = open({ ...NOWHERE, endpoint, maxAttempts: 1 });
    await expect(store.list("", { limit: 1 })).rejects.toBeInstanceOf(Unavailable);
    await expect(store.readWhole("k")).rejects.toBeInstanceOf(Unavailable);
    await expect(store.removeIf("k", () => true)).rejects.toBeInstanceOf(Unavailable);
  });
});

test("a part is large enough for 10,000 of them, and at least 8 MiB", () => {
  expect(partSizeFor(0)).toBe(8 * MIB);
  expect(partSizeFor(80_000 * MIB)).toBe(8 * MIB);
  expect(partSizeFor(80_001 * MIB)).toBe(9 * MIB);
  expect(partSizeFor(5 * MIB * MIB)).toBe(525 * MIB);
});

describe.skipIf(S3_MISSING)(S3_MISSING || "on a real server", () => {
  let bucket: Awaited<ReturnType<typeof openBucket>>;
  beforeAll(async () => {
    bucket = await openBucket({ partSizeBytes: 5 * MIB });
  });
  afterAll(() => bucket?.close());

  /** Passes everything on to the real server; `watch` sees the server's answers and may end the connection. */
  async function proxied(watch: (bytes: Buffer, client: Socket) => boolean): Promise<S3Settings> {
    const { hostname, port } = new URL(bucket.connection.endpoint!);
    const endpoint = await listen((client) => {
      const server = connect(Number(port), hostname);
      server.on("error", () => client.destroy()).on("close", () => client.destroy());
      client.on("close", () => server.destroy());
      client.pipe(server);
      server.on("data", (bytes) => watch(bytes, client) && client.write(bytes));
    });
    return { ...bucket.connection, endpoint };
  }

  test("an object whose size alone is wrong gives its connection back, unread as it is", async () => {
    const store = open({ ...bucket.connection, ...QUICK, requestTimeoutMs: 3_000, maxConnections: 2 });
    const bytes = randomBytes(4 * MIB);
    const right = { key: "sized", sizeBytes: bytes.length, sha256: sha256Of(bytes) };
    await store.put("sized", bytes);
    const verifier = createVerifier({ store });
    expect(await verifier.verify(right)).toEqual({ good: true });
    const wrong = { ...right, sizeBytes: bytes.length + 1 };
    for (let time = 0; time < 5; time++) expect(await verifier.verify(wrong)).toMatchObject({ good: false, problem: "size" });
    for (let time = 0; time < 5; time++) (await store.read("sized"))!.stream.destroy();
    expect(await verifier.verify(right)).toEqual({ good: true });
  });

  test("a wrong secret", async () => {
    await expectUnavailable(open({ ...bucket.connection, ...QUICK, secretAccessKey: SECRET }));
  });

  test("an unknown account", async () => {
    await expectUnavailable(open({ ...bucket.connection, ...QUICK, accessKeyId: "AKIDNOBODY", secretAccessKey: SECRET }));
  });

  test("a bucket that is not there", async () => {
    await expectUnavailable(open({ ...bucket.connection, ...QUICK, requestTimeoutMs: 2_000, bucket: "no-such-bucket" }));
  });

  test("two prefixes in one bucket know nothing of each other", async () => {
    const [a, b] = [open({ ...bucket.connection, prefix: "a/" }), open({ ...bucket.connection, prefix: "a/b" })];
    await a.put("k", Buffer.from("a"));
    await b.put("k", Buffer.from("b"));
    expect((await b.list("", { limit: 10 })).map(({ key }) => key)).toEqual(["k"]);
    expect((await a.list("", { limit: 1, after: "bk" })).map(({ key }) => key)).toEqual(["k"]);
    await b.remove(["k"]);
    expect((await a.readWhole("k"))?.toString()).toBe("a");
    await expect(a.put("k".repeat(1_023), Buffer.from("too long with the prefix"))).rejects.not.toBeInstanceOf(Unavailable);
  });

  test("a download goes on where the connection broke", async () => {
    const bytes = randomBytes(20 * MIB);
    await open(bucket.connection).put("long", bytes);
    let [passed, cuts] = [0, 0];
    const store = open(await proxied((chunk, client) => {
      passed += chunk.length;
      if (passed < 3 * MIB || cuts === 4) return true;
      [passed, cuts] = [0, cuts + 1];
      client.destroy();
      return false;
    }));
    const found = await store.read("long", { start: 1_000 });
    expect((await hashOf(found!.stream)).sha256).toBe(createHash("sha256").update(bytes.subarray(1_000)).digest("hex"));
    expect(cuts).toBe(4);
  });

  test("a download goes on after a silence, but not when the silence has no end", async () => {
    const bytes = randomBytes(2 * MIB);
    await open(bucket.connection).put("silent", bytes);
    const silent = new Set<Socket>();
    let [passed, mostSilent] = [0, 1];
    const settings = await proxied((chunk, client) => {
      passed += chunk.length;
      if (passed > MIB && silent.size < mostSilent) silent.add(client);
      return !silent.has(client);
    });
    const store = open({ ...settings, ...QUICK, requestTimeoutMs: 3_000 });
    expect((await all((await store.read("silent"))!.stream)).equals(bytes)).toBe(true);
    expect(silent.size).toBe(1);

    silent.clear();
    [passed, mostSilent] = [0, Number.POSITIVE_INFINITY];
    await expect(all((await store.read("silent"))!.stream)).rejects.toBeInstanceOf(Unavailable);
  });

  test("an object that is replaced while it is read is not mixed with its successor", async () => {
    const writer = open(bucket.connection);
    await writer.put("replaced", randomBytes(20 * MIB));
    let passed = 0;
    const store = open(await proxied((chunk, client) => {
      passed += chunk.length;
      if (passed < 3 * MIB) return true;
      client.destroy();
      return false;
    }));
    const found = await store.read("replaced");
    await writer.put("replaced", randomBytes(20 * MIB));
    await expect(all(found!.stream)).rejects.toBeInstanceOf(Unavailable);
  });

  test.each([["at once", 1_000], ["in parts", 6 * MIB]])("a put %s whose answer was lost was stored, and says so", async (_how, sizeBytes) => {
    let lost = 0;
    const store = open(await proxied((bytes, client) => {
      const answersPut = bytes.includes("ETag:") || bytes.includes("CompleteMultipartUploadResult");
      if (!answersPut || lost > 0) return true;
      lost += 1;
      client.destroy();
      return false;
    }));
    const bytes = randomBytes(sizeBytes);
    const key = `lost ${sizeBytes}`;
    expect(await store.put(key, bytes, { ifAbsent: true })).toEqual({ stored: true, sizeBytes });
    expect(lost).toBe(1);
    expect(await store.put(key, bytes, { ifAbsent: true })).toEqual({ stored: false, sizeBytes });
    expect(await bucket.leftovers()).toEqual([]);
    const { ContentLength } = await bucket.client.send(new HeadObjectCommand({ Bucket: bucket.connection.bucket, Key: key }));
    expect(ContentLength).toBe(sizeBytes);
  });
});
