import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // A process a file: a test that crashes or leaks takes nobody with it.
    pool: "forks",
    maxWorkers: 2,
    // Real servers on a busy machine: a hang must end, a slow moment must not fail.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
  },
});
