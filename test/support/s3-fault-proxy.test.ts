import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/objects/object-store.ts";
import { openS3Store } from "../../src/objects/s3.ts";
import { openBucket, S3_MISSING } from "../objects/s3-bucket.ts";
import { eventually } from "./eventually.ts";
import { openS3FaultProxy } from "./s3-fault-proxy.ts";

const MIB = 1024 ** 2;
const isPut = (method: string) => method === "PUT";

describe.skipIf(S3_MISSING)(S3_MISSING || "an S3 server behind the fault proxy", () => {
  let bucket: Awaited<ReturnType<typeof openBucket>>;
  let proxy: Awaited<ReturnType<typeof openS3FaultProxy>>;
  let direct: ObjectStore, store: ObjectStore;
  beforeAll(async () => {
    bucket = await openBucket({ partSizeBytes: 5 * MIB });
    direct = openS3Store(bucket.connection);
  });
  afterAll(async () => {
    await direct.close();
    await bucket.close();
  });
  beforeEach(async () => {
    proxy = await openS3FaultProxy(bucket.connection.endpoint!, { seed: 7 });
    store = openS3Store({ ...bucket.connection, endpoint: proxy.endpoint, requestTimeoutMs: 2_000, maxAttempts: 2 });
  });
  afterEach(async () => {
    await store.close();
    await proxy.close();
  });

  test("takes every kind of request, because nothing of what was signed is changed", async () => {
    const large = randomBytes(11 * MIB);
    const key = "a b+c/ü%20&?=";
    expect(await store.put("large", large, { ifAbsent: true })).toEqual({ stored: true, sizeBytes: large.length });
    expect(await store.put(key, Buffer.from("small"))).toEqual({ stored: true, sizeBytes: 5 });
    expect(Buffer.from((await store.readWhole("large"))!).equals(large)).toBe(true);
    expect((await (await store.read(key, { start: 1, end: 2 }))!.stream.toArray()).toString()).toBe("ma");
    expect((await store.list("", { limit: 10 })).map((object) => object.key)).toEqual([key, "large"]);
    expect(await store.head("none")).toBeUndefined();
    await store.remove([key, "large"]);
    expect(await store.list("", { limit: 10 })).toEqual([]);
    expect(proxy.counts()).toMatchObject({ failed: 0, lost: 0, hung: 0 });
  });

  test("that fails nearly a third of the time stores what it says it stored, and the same requests fail each time", async () => {
    async function play() {
      const proxy = await openS3FaultProxy(bucket.connection.endpoint!, { seed: 11 });
      const store = openS3Store({ ...bucket.connection, endpoint: proxy.endpoint, maxAttempts: 1 });
      proxy.set({ failShare: 0.3 });
      const said: boolean[] = [];
      for (let i = 0; i < 40; i++) {
        said.push(await store.put(`often ${i}`, randomBytes(100)).then(() => true, (error: unknown) => {
          expect(error).toBeInstanceOf(Unavailable);
          return false;
        }));
      }
      const kept = (await direct.list("often", { limit: 100 })).length;
      await direct.remove(Array.from({ length: 40 }, (_, i) => `often ${i}`));
      await store.close();
      await proxy.close();
      return { said, kept, counts: proxy.counts() };
    }
    const first = await play();
    expect(first.kept).toBe(first.said.filter(Boolean).length);
    expect(first.counts).toEqual({ passed: first.kept, failed: 40 - first.kept, lost: 0, hung: 0 });
    expect(first.counts.failed).toBeGreaterThan(3);
    expect(await play()).toEqual(first);
  });

  test("that loses replies has done what was asked, and a put made only if absent knows its own", async () => {
    proxy.set({ loseReplyShare: 1, only: isPut });
    await expect(store.put("lost", Buffer.from("here"))).rejects.toBeInstanceOf(Unavailable);
    expect(proxy.counts()).toMatchObject({ lost: 2, passed: 0 });
    expect(Buffer.from((await direct.readWhole("lost"))!).toString()).toBe("here");

    proxy.set({ loseReplyShare: 0.5 });
    let stored = 0;
    for (let i = 0; i < 20; i++) {
      const answer = await store.put(`once ${i}`, Buffer.from("x"), { ifAbsent: true }).catch(() => undefined);
      if (answer) expect(answer.stored).toBe(true);
      if (answer) stored++;
    }
    expect(stored).toBeGreaterThan(5);
    expect(proxy.counts().lost).toBeGreaterThan(7);
    await direct.remove(["lost", ...Array.from({ length: 20 }, (_, i) => `once ${i}`)]);
  });

  test("that hangs answers nobody, and goes on with who asks later", async () => {
    proxy.set({ hang: true });
    const startedAt = Date.now();
    await expect(store.put("hung", Buffer.from("x"))).rejects.toBeInstanceOf(Unavailable);
    expect(Date.now() - startedAt).toBeGreaterThan(3_900);
    expect(proxy.counts()).toEqual({ passed: 0, failed: 0, lost: 0, hung: 2 });
    proxy.set({});
    expect(await store.head("hung")).toBeUndefined();
    await store.put("hung", Buffer.from("x"));
    await store.remove(["hung"]);
  });

  test("that is slow is slow both ways, and heals in the middle", async () => {
    const bytes = randomBytes(60_000);
    proxy.set({ bytesPerSecond: 100_000 });
    const startedAt = Date.now();
    await store.put("slow", bytes);
    expect(Date.now() - startedAt).toBeGreaterThan(500);
    const reading = store.readWhole("slow");
    expect(Buffer.from((await reading)!).equals(bytes)).toBe(true);
    expect(Date.now() - startedAt).toBeGreaterThan(1_000);

    proxy.set({ bytesPerSecond: 1_000 });
    const slow = store.readWhole("slow");
    await eventually(() => proxy.counts().passed, 3);
    proxy.set({});
    expect(Buffer.from((await slow)!).equals(bytes)).toBe(true);
    expect(Date.now() - startedAt).toBeLessThan(10_000);
    await store.remove(["slow"]);
  });

  test("that is down resets, and the store says that it is unavailable until it is back", async () => {
    await store.ping();
    proxy.set({ down: true });
    await expect(store.ping()).rejects.toBeInstanceOf(Unavailable);
    proxy.set({});
    await store.ping();
  });
});
