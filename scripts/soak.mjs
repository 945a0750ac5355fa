/**
 * `npm run soak -- --minutes 30 [--seed 7]`: the real system under load and faults in random order for so long, then the
 * long forms of the kill sweeps, of the faults of the disk, of the model (20,000 runs) and of the multipart fuzzer (20,000
 * forms, 5,000 bodies). The report of the first goes to docs/reliability.md.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { prepare, root } from "./bootstrap.mjs";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" }, seed: { type: "string" }, only: { type: "string" } } });
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(minutes > 0) || !Number.isInteger(seed)) {
  console.error("npm run soak -- --minutes 30 [--seed 7] [--only soak|kill-sweeps|disk|model|fuzz]");
  process.exit(2);
}
console.log(`• Soaking for ${minutes} minutes with seed ${seed}. To play it again: npm run soak -- --minutes ${minutes} --seed ${seed}`);
await prepare(["src", "scripts"]);
Object.assign(process.env, { SOAK_MINUTES: String(minutes), SOAK_SEED: String(seed), FUZZ_SEED: String(seed), MODEL_SEED: String(seed), MODEL_RUNS: "20000", FUZZ_RUNS: "20000", FAULTS: "long" });
const { runTests } = await import("../dist/scripts/test.js");
// Named here: reporters on the command line, which runTests has, take the place of those in the configuration.
process.exitCode = await runTests(root, ["--config", "vitest.soak.config.ts", "--reporter=./test/soak/reporter.ts", ...(values.only ? [values.only] : [])]);
if (!values.only && !readFileSync(join(root, "docs/reliability.md"), "utf8").includes("Then the long forms")) {
  console.error("✘ The report in docs/reliability.md says nothing of the long forms.");
  process.exitCode = 1;
}
