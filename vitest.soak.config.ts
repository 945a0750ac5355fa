import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** The soak, and after it what has a long form. */
const IN_ORDER = ["test/soak/soak", "test/faults/kill-sweeps", "test/faults/kill-sweeps-s3", "test/faults/kill-sweeps-dead-letters", "test/faults/disk", "test/faults/model", "test/faults/multipart-fuzz"]
  .map((name) => `${name}.test.ts`);

class InOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification) => IN_ORDER.findIndex((name) => moduleId.endsWith(name));
    return files.toSorted((one, other) => place(one) - place(other));
  }
}

/** What `npm run soak` runs: for as long as it is told to, so not a part of `npm test`. */
export default defineConfig({
  test: {
    include: IN_ORDER,
    sequence: { sequencer: InOrder },
    pool: "forks",
    maxWorkers: 1, // one at a time: memory and times are measured
    testTimeout: 3_600_000,
    hookTimeout: 300_000,
  },
});
