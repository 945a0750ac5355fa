/** `npm test`: sets up what is missing, then runs every test against real servers. `--servers` only starts those. */
import { prepare, root } from "./bootstrap.mjs";

const args = process.argv.slice(2);
if (args.includes("--servers")) {
  await prepare(["scripts"]);
  const { holdTestServers } = await import("../dist/scripts/test-servers.js");
  await holdTestServers(root);
} else {
  let finished = false;
  // Whoever reads the last line must find the counts there, also when the set-up failed.
  process.on("exit", () => { if (!finished) console.log("\n0 passed, 1 failed"); });
  await prepare(["src", "scripts"]);
  const { runTests } = await import("../dist/scripts/test.js");
  process.exitCode = await runTests(root, args, { faultsWithinSeconds: 600 });
  finished = true;
}
