import { relative } from "node:path";
import type { Reporter, TestModule } from "vitest/node";
import { addSequels, type Sequel } from "./report.ts";

const SOAK = "test/soak/soak.test.ts";
const MINUTE_MS = 60_000;

/** At the end of `npm run soak`: what the soak itself could not say yet, as it is the first of the run. */
export default class SequelReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const sequels = modules.map(describe);
    if (sequels.length < 2 || !sequels.some(({ name }) => name === SOAK)) return; // of a run with --only
    addSequels(sequels.filter(({ name }) => name !== SOAK));
  }
}

function describe(module: TestModule): Sequel {
  const tests = [...module.children.allTests()];
  const failed = tests.filter((one) => one.result().state === "failed").map(({ fullName }) => fullName);
  const broken = module.state() === "failed" && failed.length === 0 ? ["it could not be run to its end"] : [];
  return {
    name: relative(process.cwd(), module.moduleId), failed: [...failed, ...broken],
    passed: tests.filter((one) => one.result().state === "passed").length,
    skipped: tests.filter((one) => ["skipped", "pending"].includes(one.result().state)).length,
    minutes: module.diagnostic().duration / MINUTE_MS,
  };
}
