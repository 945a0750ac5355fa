import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Those that take a minute or more, longest first: one of them begun last would have the other cores wait for it. */
const LONG = [
  "faults/side-by-side", "faults/disk", "faults/kill-sweeps-s3", "faults/kill-sweeps-dead-letters", "faults/s3", "faults/redis",
  "faults/kill-sweeps", "faults/postgres", "faults/tus",
  "faults/events-kills", "faults/events-postgres", "faults/events-redis", "faults/events-side-by-side", "faults/events-spool", "faults/s3-memory",
  "files/damage", "uploads/audit", "scripts/simulate", "uploads/dashboard",
  "main/web-process", "http/looks",
].map((name) => `/test/${name}.test.ts`);

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const groupOf = (file: TestSpecification) => file.project.config.sequence.groupOrder;
    const placeOf = ({ moduleId }: TestSpecification) => {
      const place = LONG.findIndex((name) => moduleId.endsWith(name));
      return place === -1 ? LONG.length : place;
    };
    return (await super.sort(files)).sort((a, b) => groupOf(a) - groupOf(b) || placeOf(a) - placeOf(b));
  }
}

export default defineConfig({
  test: {
    // A process a file: a test that crashes or leaks takes nobody with it. One more than the cores of a small machine: many wait.
    pool: "forks",
    maxWorkers: 3,
    teardownTimeout: 30_000,
    sequence: { sequencer: LongestFirst },
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
        // They wait more than the others do, so there is one worker more.
        test: { name: "faults", include: ["test/faults/**/*.test.ts"], maxWorkers: 4, testTimeout: 180_000, hookTimeout: 120_000, sequence: { groupOrder: 1 } },
      },
    ],
  },
});
