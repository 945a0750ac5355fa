import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { openDiskStore } from "../../src/objects/disk.ts";

test("a body that came so slowly that its file was swept is not stored: there would be no bytes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "connectstorm-swept-"));
  const store = await openDiskStore({ folder, dependency: "inbox", smallObjectBytes: 1_000 });
  try {
    const body = (async function* () {
      for (let i = 0; i < 3; i++) yield randomBytes(1_000_000);
      await store.sweep(-60_000); // whatever was not written to within the next minute: everything
      yield randomBytes(1_000_000);
    })();
    await expect(store.put("slow", body)).rejects.toBeInstanceOf(Unavailable);
    expect(await store.head("slow")).toBeUndefined();
    expect((await readdir(join(folder, "files"), { recursive: true })).filter((name) => name.includes("/"))).toEqual([]);
  } finally {
    await store.close();
    await rm(folder, { recursive: true });
  }
});
