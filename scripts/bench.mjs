/** `npm run bench`: sets up what is missing, builds bench/ beside it, and measures. See bench/README.md. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "./bootstrap.mjs";

await prepare(["src", "scripts"]);
const compiler = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.bench.json"], {
  cwd: root, stdio: "inherit",
});
if (compiler.status !== 0) process.exit(1);
const { runBench } = await import("../dist/bench/run.js");
process.exitCode = await runBench(root, process.argv.slice(2)).catch((error) => {
  console.error(`\n${error.message}`);
  return 1;
});
