import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDiskStore } from "../../src/objects/disk.ts";
import { describeObjectStore } from "./conformance.ts";

const SMALL_OBJECT_BYTES = 16 * 1024;

describeObjectStore({
  name: "a disk store",
  thresholdBytes: SMALL_OBJECT_BYTES,
  decidesLargeCreates: true,
  decidesRemovals: true,
  keepsRacingPuts: true,
  readersKeepTheirObject: true,
  async open() {
    const folder = await mkdtemp(join(tmpdir(), "connectstorm-disk-"));
    const store = await openDiskStore({ folder, dependency: "storage", smallObjectBytes: SMALL_OBJECT_BYTES });
    return {
      store,
      async leftovers() {
        const large = (await store.list("", { limit: 100_000 })).filter(({ sizeBytes }) => sizeBytes > SMALL_OBJECT_BYTES);
        const files = (await readdir(join(folder, "files"), { recursive: true })).filter((name) => name.includes("/"));
        return files.slice(large.length);
      },
      async close() {
        await store.close();
        await rm(folder, { recursive: true });
      },
    };
  },
});
