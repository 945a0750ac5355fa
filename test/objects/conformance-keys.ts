import { beforeAll, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/objects/object-store.ts";

export interface StoreWithCheck {
  store: ObjectStore;
  /** Expects the object to be there, by head, stream and in one. */
  expectObject(key: string, bytes: Uint8Array): Promise<void>;
}

/** The part of the conformance suite that is about keys: their order in listings, and that any text will do. */
export function describeKeys(under: () => StoreWithCheck): void {
  describe("lists", () => {
    // Byte order is not that of UTF-16: U+FFFD comes before an emoji.
    const names = ["", "-", "/", "/a", "A", "a", "a/b", "aa", "b c", "é", "\u{FFFD}", "😀"].map((name) => `list/x${name}`);
    const numbered = Array.from({ length: 1_234 }, (_, i) => `list/n/${String(i).padStart(5, "0")}`);
    beforeAll(async () => {
      await inBatches([...names, ...numbered, "list", "listed"], (key) => under().store.put(key, Buffer.from(key)));
    });
    const keysOf = async (...args: Parameters<ObjectStore["list"]>) => (await under().store.list(...args)).map(({ key }) => key);

    test("keys with a prefix, in byte order", async () => {
      const sorted = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await keysOf("list/x", { limit: 100 })).toEqual(sorted);
      expect(await keysOf("list/xa", { limit: 100 })).toEqual(sorted.filter((key) => key.startsWith("list/xa")));
      expect(await keysOf("no such prefix", { limit: 100 })).toEqual([]);
    });

    test("more than 1,000 keys at once, and page by page", async () => {
      expect(await keysOf("list/n/", { limit: 5_000 })).toEqual(numbered);
      const paged: string[] = [];
      for (let page = await keysOf("list/n/", { limit: 500 }); page.length > 0; page = await keysOf("list/n/", { limit: 500, after: page.at(-1)! })) {
        expect(page.length).toBeLessThanOrEqual(500);
        paged.push(...page);
      }
      expect(paged).toEqual(numbered);
    });

    test("what comes after a key, be it there or not", async () => {
      expect(await keysOf("list/n/", { limit: 2, after: "list/n/00007" })).toEqual(["list/n/00008", "list/n/00009"]);
      expect(await keysOf("list/n/", { limit: 1, after: "list/n/00007x" })).toEqual(["list/n/00008"]);
      expect(await keysOf("list/n/", { limit: 1, after: "a" })).toEqual(["list/n/00000"]);
      expect(await keysOf("list/n/", { limit: 1, after: "z" })).toEqual([]);
      expect(await keysOf("", { limit: 2, after: "list/n/01233" })).toEqual(["list/x", "list/x-"]);
    });

    test("sizes and times", async () => {
      const [found] = await under().store.list("listed", { limit: 1 });
      expect(found).toMatchObject({ key: "listed", sizeBytes: 6 });
      const head = await under().store.head("listed"); // S3 gives whole seconds here, and their fractions in a listing
      expect(Math.abs(found!.modifiedAt.getTime() - head!.modifiedAt.getTime())).toBeLessThan(1_000);
    });
  });

  describe("takes any key", () => {
    const odd = ["a/../b", "../../etc/passwd", "..", ".", "/leading", "trailing/", "a//b", " ", "sp ace ", "+&?%25=#", "%2F", "a\\b",
      "\"<>'", "line\nfeed", "carriage\rreturn", "\u0001\u001f\u007f", "😀/é", "\u{FFFE}", "k".repeat(1_024), "é".repeat(512)];
    test.each(odd)("%j", async (key) => {
      const bytes = Buffer.from(`bytes of ${key}`);
      await under().store.put(key, bytes, { ifAbsent: true });
      await under().expectObject(key, bytes);
      expect((await under().store.list(key, { limit: 1 })).map((found) => found.key)).toEqual([key]);
      await under().store.remove([key, "removed along with it"]);
      expect(await under().store.head(key)).toBeUndefined();
    });

    test("each another: a key is a name and no path", async () => {
      for (const key of ["p/../q", "q", "./q", "/q", "q/", "Q"]) await under().store.put(key, Buffer.from(key));
      for (const key of ["p/../q", "q", "./q", "/q", "q/", "Q"]) expect((await under().store.readWhole(key))?.toString()).toBe(key);
    });

    test.each(["", "k".repeat(1_025), "é".repeat(513), "nul\0", "\ud800"])("but not %j, which is a mistake of the caller", async (key) => {
      for (const mistake of [under().store.put(key, Buffer.from("x")), under().store.head(key), under().store.read(key), under().store.readWhole(key), under().store.remove([key])]) {
        await expect(mistake).rejects.toSatisfy((error) => error instanceof Error && !(error instanceof Unavailable));
      }
    });
  });
}

export async function inBatches<T>(items: T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += 100) await Promise.all(items.slice(at, at + 100).map(work));
}
