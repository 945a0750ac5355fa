import { sweepKills } from "./kill-sweeps.ts";

/** Parts are of 8 MiB: two of them. Few such uploads: Ceph gives the room of removed ones back hours later. */
const IN_PARTS = 9_000_000;

// Every step there is can occur with S3 as well, so none is left out.
sweepKills({
  settings: { INBOX: "s3", STORAGE_MODE: "s3" },
  times: process.env.FAULTS === "long" ? [1, 2, 5] : [1],
  sizes: [900, 900, 300_000],
  sizesAt: { "file-written": [900, 900, 900, 300_000, IN_PARTS] }, // only these come to it
  alsoOfTheWorker: ["file-written"], // from one place of the bucket to the other they go in parts again; a disk gives the file a second name
});
