import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // A process a file: a test that crashes or leaks takes nobody with it. One more than the cores of a small machine: many wait.
    pool: "forks",
    maxWorkers: 3,
    // Real servers on a busy machine: a hang must end, a slow moment must not fail.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
  },
});
