import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createAlbum } from "../../scripts/simulate/album.ts";
import { createReceipts } from "../../scripts/simulate/receipts.ts";
import { createTally } from "../../scripts/simulate/tally.ts";

describe("what failed", () => {
  test("is kept once of each user, also where it is found out when the receipt is looked up", async () => {
    const answers: Record<string, object> = {
      dead: { status: "failed", reason: "its bytes are gone" }, other: { status: "stored", sha256: "b" }, waits: { status: "accepted" }, good: { status: "stored", sha256: "a" },
    };
    const site = createServer((req, res) => res.end(JSON.stringify(answers[/files\/(\w+)/.exec(req.url!)![1]!]))).listen(0, "127.0.0.1");
    await once(site, "listening");
    const tally = createTally();
    const receipts = createReceipts({ target: `http://127.0.0.1:${(site.address() as AddressInfo).port}`, tally, patienceMs: 3_000 });
    try {
      for (const fileId of ["dead", "other", "waits", "good"]) {
        for (const user of [`owner-of-${fileId}`, "owner-of-dead"]) receipts.add({ fileId, file: { name: "a.txt", sha256: "a" }, user, receivedMs: 0 });
      }
      expect(await receipts.settle(new AbortController().signal)).toMatchObject({ count: 2 });
      expect(receipts.broken().map(({ user, kind }) => [user, kind]).toSorted()).toEqual([["owner-of-dead", "dead letter"], ["owner-of-other", "wrong hash"], ["owner-of-waits", "missing"]]);
      expect(tally.counts.errors).toBe(4); // what is missing is told apart from errors
    } finally {
      await receipts.close();
      site.close();
    }
  });

  test("is counted where there was nothing to be seen, until there is", async () => {
    const folder = await mkdtemp(join(tmpdir(), "crowd-album-"));
    try {
      const album = createAlbum({ reportFile: join(folder, "a report.html"), elapsedMs: () => 5 });
      const failure = (user: string) => ({ user, kind: "browser" as const, detail: "it crashed" });
      await album.add(failure("one"), async () => undefined);
      await album.add(failure("two"), async () => undefined);
      expect(album.unseen()).toBe(2);
      for (let turn = 0; turn < 2; turn++) await album.add(failure("one"), async () => Buffer.from("picture"));
      expect(album.unseen()).toBe(1);
      expect(album.pictures).toEqual([{ ...failure("one"), atMs: 5, isReceipt: false, address: "data:image/jpeg;base64,cGljdHVyZQ==" }]);
      for (let user = 2; user <= 13; user++) await album.add(failure(`user-${user}`), async () => Buffer.from("picture"));
      expect(album.pictures.at(-1)!.address).toBe("a%20report-screenshots/user-13.jpg");
      expect(await readFile(join(folder, "a report-screenshots", "user-13.jpg"), "utf8")).toBe("picture");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
