import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // A process a file: a test that crashes or leaks takes nobody with it. One more than the cores of a small machine: many wait.
    pool: "forks",
    maxWorkers: 3,
    teardownTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: {
          name: "behaviour",
          include: ["test/**/*.test.ts"],
          exclude: ["test/faults/**", "test/soak/**"],
          // Real servers on a busy machine: a hang must end, a slow moment must not fail.
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        // Processes die and come back, and outages last: longer than any other test. After the others, so that they take their own time.
        test: { name: "faults", include: ["test/faults/**/*.test.ts"], testTimeout: 180_000, hookTimeout: 120_000, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
