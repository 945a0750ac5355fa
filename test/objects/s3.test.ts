import { describe } from "vitest";
import { openS3Store } from "../../src/objects/s3.ts";
import { describeObjectStore } from "./conformance.ts";
import { openBucket, S3_MISSING } from "./s3-bucket.ts";

const PART_BYTES = 5 * 1024 * 1024; // the least S3 allows

describe.skipIf(S3_MISSING)(S3_MISSING || "on a real server", () => {
  describeObjectStore({
    name: "an S3 store",
    thresholdBytes: PART_BYTES,
    decidesLargeCreates: false, // Ceph 18 ignores If-None-Match on completing a multipart upload
    decidesRemovals: false, // Ceph 18 ignores If-Match on removing
    keepsRacingPuts: false, // Ceph 18 takes the put for overwritten by the other, whose condition it no longer met (seen once)
    readersKeepTheirObject: false,
    async open() {
      const { connection, leftovers, close } = await openBucket({ partSizeBytes: PART_BYTES });
      const store = openS3Store(connection);
      return {
        store,
        leftovers,
        async close() {
          await store.close();
          await close();
        },
      };
    },
  });
});
