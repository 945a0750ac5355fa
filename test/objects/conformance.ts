import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import type { ByteRange, ObjectStore } from "../../src/objects/object-store.ts";
import { all, brokenAfter, hashOf, inPieces, longBody, memoryGrowth } from "./bytes.ts";
import { describeKeys, inBatches } from "./conformance-keys.ts";

export interface StoreUnderTest {
  store: ObjectStore;
  /** What is on the disk or in the bucket that is no object: temporary files, unfinished multipart uploads. */
  leftovers(): Promise<string[]>;
  close(): Promise<void>;
}

export interface Kind {
  name: string;
  open(): Promise<StoreUnderTest>;
  /** Objects over this size are written in another way: to a file, in parts. */
  thresholdBytes: number;
  /** Whether creating the same large object twice in one moment is decided by the server. */
  decidesLargeCreates: boolean;
  /** Whether removing an object that was replaced in one moment is decided by the server. */
  decidesRemovals: boolean;
  /** Whether a put that meets a replaceIf in one moment stays, as it was done after what the replaceIf was meant for. */
  keepsRacingPuts: boolean;
  /** Whether an open stream goes on when its object is replaced or removed. */
  readersKeepTheirObject: boolean;
}

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

/** What every ObjectStore promises. */
export function describeObjectStore(kind: Kind): void {
  const { thresholdBytes } = kind;
  const large = thresholdBytes + 1;

  describe(kind.name, () => {
    let under: StoreUnderTest;
    let store: ObjectStore;
    beforeAll(async () => {
      under = await kind.open();
      store = under.store;
    });
    afterAll(() => under.close());

    describe("gives back what was put", () => {
      const sizes = [...new Set([0, 1, thresholdBytes - 1, thresholdBytes, large, MIB])];
      test.each(sizes)("%i bytes at once", async (sizeBytes) => {
        const [key, bytes] = [randomUUID(), randomBytes(sizeBytes)];
        expect(await store.put(key, bytes)).toEqual({ stored: true, sizeBytes });
        await expectObject(key, bytes);
      });

      test.each(sizes)("%i bytes as a stream of odd pieces", async (sizeBytes) => {
        const [key, bytes] = [randomUUID(), randomBytes(sizeBytes)];
        expect(await store.put(key, inPieces(bytes, 1, 65_537, 3, 1_000))).toEqual({ stored: true, sizeBytes });
        await expectObject(key, bytes);
      });

      test("pieces of no bytes, and one piece larger than all limits", async () => {
        const bytes = randomBytes(3 * thresholdBytes + 7);
        await store.put("one piece", inPieces(bytes, bytes.length));
        await expectObject("one piece", bytes);
        await store.put("no bytes between", (async function* () {
          for await (const piece of inPieces(bytes, MIB)) {
            yield Buffer.alloc(0);
            yield piece;
          }
        })());
        await expectObject("no bytes between", bytes);
        await store.put("nothing", (async function* () {
          yield Buffer.alloc(0);
        })());
        await expectObject("nothing", Buffer.alloc(0));
      });

      test("bytes that the caller changes afterwards", async () => {
        for (const sizeBytes of [1_000, large]) {
          const bytes = randomBytes(sizeBytes);
          const copy = Buffer.from(bytes);
          await store.put("changed", bytes);
          bytes.fill(0);
          await expectObject("changed", copy);
          (await store.readWhole("changed"))?.fill(0);
          await expectObject("changed", copy);
        }
      });

      test("with the time it was put", async () => {
        const before = Date.now();
        await store.put("timed", Buffer.from("x"));
        const modifiedAt = (await store.head("timed"))?.modifiedAt.getTime();
        expect(modifiedAt).toBeGreaterThanOrEqual(before - 2_000); // S3 rounds down to seconds
        expect(modifiedAt).toBeLessThanOrEqual(Date.now() + 2_000);
      });

      test("1 GiB, in little memory", async () => {
        const body = longBody(GIB);
        const growth = await memoryGrowth(async () => {
          expect(await store.put("1 GiB", body.chunks)).toEqual({ stored: true, sizeBytes: GIB });
          const found = await store.read("1 GiB");
          expect(await hashOf(found!.stream)).toEqual({ sha256: body.sha256(), sizeBytes: GIB });
        });
        expect(growth).toBeLessThan(150 * MIB);
        await store.remove(["1 GiB"]);
      }, 60_000);
    });

    describe("reads ranges", () => {
      const sizes = [1_000, large];
      const ranges: [string, (size: number) => ByteRange][] = [
        ["the first byte", () => ({ start: 0, end: 0 })],
        ["the first bytes", () => ({ start: 0, end: 99 })],
        ["bytes in the middle", (size) => ({ start: 300, end: size - 300 })],
        ["all from some byte on", () => ({ start: 500 })],
        ["the last byte", (size) => ({ start: size - 1, end: size - 1 })],
        ["an end past the end", (size) => ({ start: size - 10, end: size + 1_000 })],
        ["a start just past the end", (size) => ({ start: size })],
        ["a start far past the end", (size) => ({ start: size + 5, end: size + 9 })],
      ];
      const objects = new Map(sizes.map((size) => [size, randomBytes(size)]));
      beforeAll(async () => {
        for (const [size, bytes] of objects) await store.put(`ranges ${size}`, bytes);
      });

      test.each(sizes.flatMap((size) => ranges.map(([what, range]) => ({ size, what, range: range(size) }))))(
        "$what of $size bytes",
        async ({ size, range }) => {
          const found = await store.read(`ranges ${size}`, range);
          expect(found?.sizeBytes).toBe(size);
          const expected = objects.get(size)!.subarray(range.start, (range.end ?? size) + 1);
          expect((await all(found!.stream)).equals(expected)).toBe(true);
        },
      );

      test("of an object of no bytes", async () => {
        await store.put("empty", Buffer.alloc(0));
        const found = await store.read("empty", { start: 0, end: 10 });
        expect(found?.sizeBytes).toBe(0);
        expect(await all(found!.stream)).toHaveLength(0);
      });

      test("of what is not there", async () => {
        expect(await store.read("nowhere", { start: 1 })).toBeUndefined();
      });
    });

    describe("creates only what is not there", () => {
      test.each([10, large])("%i bytes, one after another", async (sizeBytes) => {
        const [key, first] = [randomUUID(), randomBytes(sizeBytes)];
        expect(await store.put(key, first, { ifAbsent: true })).toEqual({ stored: true, sizeBytes });
        for (const other of [randomBytes(20), randomBytes(large + 1)]) {
          expect(await store.put(key, other, { ifAbsent: true })).toEqual({ stored: false, sizeBytes: other.length });
          expect(await store.put(key, inPieces(other, 9_999), { ifAbsent: true })).toEqual({ stored: false, sizeBytes: other.length });
        }
        await expectObject(key, first);
        expect(await under.leftovers()).toEqual([]);
      });

      const contests = kind.decidesLargeCreates ? [{ sizes: [10] }, { sizes: [large] }, { sizes: [10, large] }] : [{ sizes: [10] }];
      test.each(contests)("20 at once, of $sizes bytes: exactly one is stored", async ({ sizes }) => {
        const key = randomUUID();
        const bodies = Array.from({ length: 20 }, (_, i) => randomBytes(sizes[i % sizes.length]!));
        const results = await Promise.all(bodies.map((body) => store.put(key, body, { ifAbsent: true })));
        const winners = bodies.filter((_, i) => results[i]!.stored);
        expect(winners).toHaveLength(1);
        await expectObject(key, winners[0]!);
        expect(await under.leftovers()).toEqual([]);
      });
    });

    test("replaces small by large and large by small, and keeps nothing of the old", async () => {
      for (const sizeBytes of [10, large, 20, large + 5, large + 9, 0]) {
        const bytes = randomBytes(sizeBytes);
        expect(await store.put("replaced", bytes)).toEqual({ stored: true, sizeBytes });
        await expectObject("replaced", bytes);
      }
      expect(await under.leftovers()).toEqual([]);
    });

    test("knows nothing of what was never put, and removes it without complaint", async () => {
      expect(await store.head("never put")).toBeUndefined();
      expect(await store.read("never put")).toBeUndefined();
      expect(await store.readWhole("never put")).toBeUndefined();
      await store.remove(["never put", "never put either"]);
      await store.remove(["never put"]);
      await store.remove([]);
    });

    test("removes many at once, small and large, and no others", async () => {
      const keys = Array.from({ length: 1_100 }, (_, i) => `many/${i}`);
      await inBatches(keys, (key) => store.put(key, Buffer.from(key)));
      await store.put("many/large", randomBytes(large));
      await store.put("many", Buffer.from("stays"));
      await store.remove([...keys, "many/large", "many/none"]);
      expect(await store.list("many/", { limit: 10 })).toEqual([]);
      expect((await store.readWhole("many"))?.toString()).toBe("stays");
      expect(await under.leftovers()).toEqual([]);
    });

    describeKeys(() => ({ store, expectObject }));

    describe("removes an object only if it is the one that is meant", () => {
      const meant = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, 5)).equals(Buffer.from("meant"));
      const bytesOf = (what: string) => [Buffer.from(what), Buffer.concat([Buffer.from(what), randomBytes(large)])];

      test.each([0, 1])("and no other, and none that is not there", async (which) => {
        const [key, one, other] = [randomUUID(), bytesOf("meant")[which]!, bytesOf("other")[which]!];
        expect(await store.removeIf(key, () => true)).toBe(false);
        await store.put(key, other);
        expect(await store.removeIf(key, meant)).toBe(false);
        await expectObject(key, other);
        await store.put(key, one);
        expect(await store.removeIf(key, meant)).toBe(true);
        expect(await store.head(key)).toBeUndefined();
        expect(await under.leftovers()).toEqual([]);
      });

      test.runIf(kind.decidesRemovals)("also when another takes its place at the last moment", async () => {
        for (let turns = 0; turns < 30; turns++) {
          const key = randomUUID();
          await store.put(key, Buffer.from("meant"));
          const replaced = store.put(key, Buffer.from("other"));
          for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate); // the put is so far on its way
          await store.removeIf(key, meant);
          await replaced;
          await expectObject(key, Buffer.from("other"));
        }
      });
    });

    describe("puts bytes in the place of an object only if it is the one that is meant", () => {
      const isMeant = (bytes: Uint8Array) => bytes[0] === "m".charCodeAt(0);
      const next = Buffer.from("next");

      test.each([["small", Buffer.from("meant"), Buffer.from("other")], ["large", Buffer.alloc(large, "m"), Buffer.alloc(large, "o")]])("a %s one, and no other, and none that is not there", async (_size, meant, other) => {
        const key = randomUUID();
        expect(await store.replaceIf(key, () => true, next)).toBe(false);
        expect(await store.head(key)).toBeUndefined();
        await store.put(key, other);
        expect(await store.replaceIf(key, isMeant, next)).toBe(false);
        await expectObject(key, other);
        await store.put(key, meant);
        expect(await store.replaceIf(key, isMeant, next)).toBe(true);
        await expectObject(key, next);
        expect(await under.leftovers()).toEqual([]);
      });

      test("one of ten at once", async () => {
        const key = randomUUID();
        await store.put(key, Buffer.from("meant"));
        const done = await Promise.all(Array.from({ length: 10 }, (_, i) => store.replaceIf(key, isMeant, Buffer.from(`next ${i}`))));
        expect(done.filter(Boolean)).toHaveLength(1);
        await expectObject(key, Buffer.from(`next ${done.indexOf(true)}`));
      });

      test("also when another takes its place, or it goes, at the last moment", async () => {
        for (let turns = 0; turns < 30; turns++) {
          const key = randomUUID();
          await store.put(key, Buffer.from("meant"));
          const goes = turns % 2 === 0 || !kind.keepsRacingPuts;
          const changed = goes ? store.remove([key]) : store.put(key, Buffer.from("other"));
          for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate); // so far on its way
          await store.replaceIf(key, isMeant, next);
          await changed;
          expect((await store.readWhole(key))?.toString()).toBe(goes ? undefined : "other");
        }
      });
    });

    describe("keeps nothing of a body that breaks off", () => {
      test.each([0, 1, large, 4 * large])("after %i bytes", async (sizeBytes) => {
        const [absent, present] = [randomUUID(), randomUUID()];
        await store.put(present, Buffer.from("untouched"));
        const error = new RangeError("the client went away");
        for (const key of [absent, present]) {
          for (const ifAbsent of [false, true]) {
            await expect(store.put(key, brokenAfter(randomBytes(sizeBytes), error), { ifAbsent })).rejects.toBe(error);
          }
        }
        expect(await store.head(absent)).toBeUndefined();
        await expectObject(present, Buffer.from("untouched"));
        expect(await under.leftovers()).toEqual([]);
      });
    });

    test.runIf(kind.readersKeepTheirObject)("lets a reader go on when its object is replaced or removed", async () => {
      const bytes = randomBytes(8 * MIB);
      for (const end of [() => store.put("read", Buffer.from("new")), () => store.put("read", randomBytes(large)), () => store.remove(["read"])]) {
        await store.put("read", bytes);
        const found = await store.read("read");
        await end();
        expect((await all(found!.stream)).equals(bytes)).toBe(true);
      }
    });

    test("does not mind a reader that stops early", async () => {
      await store.put("left", randomBytes(4 * large));
      for (let i = 0; i < 30; i += 1) {
        const found = await store.read("left");
        for await (const _ of found!.stream) break;
        expect(found!.stream.destroyed).toBe(true);
      }
      await expect(store.head("left")).resolves.toBeDefined();
    });

    test("answers a ping", async () => {
      await store.ping();
    });

    test("is unavailable after it was closed, which may happen twice", async () => {
      const other = await kind.open();
      await other.store.put("k", Buffer.from("v"));
      await other.store.close();
      await other.store.close();
      for (const late of [() => other.store.put("k", Buffer.from("v")), () => other.store.put("k", inPieces(randomBytes(large), 999)),
        () => other.store.head("k"), () => other.store.read("k"), () => other.store.readWhole("k"), () => other.store.remove(["k"]), () => other.store.removeIf("k", () => true), () => other.store.replaceIf("k", () => true, Buffer.from("v")),
        () => other.store.list("", { limit: 1 }), () => other.store.ping()]) {
        await expect(late()).rejects.toBeInstanceOf(Unavailable);
      }
      await other.close();
    });

    async function expectObject(key: string, bytes: Uint8Array): Promise<void> {
      expect(await store.head(key)).toMatchObject({ key, sizeBytes: bytes.length });
      const found = await store.read(key);
      expect(found?.sizeBytes).toBe(bytes.length);
      expect((await all(found!.stream)).equals(bytes)).toBe(true);
      expect(Buffer.from((await store.readWhole(key))!).equals(bytes)).toBe(true);
    }
  });
}
