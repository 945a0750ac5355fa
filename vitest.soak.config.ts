import { defineConfig } from "vitest/config";

/** What `npm run soak` runs: for as long as it is told to, so not a part of `npm test`. */
export default defineConfig({
  test: {
    include: ["test/soak/**/*.test.ts", "test/faults/model.test.ts", "test/faults/multipart-fuzz.test.ts"],
    pool: "forks",
    maxWorkers: 1, // one at a time: memory and times are measured
    testTimeout: 3_600_000,
    hookTimeout: 300_000,
  },
});
