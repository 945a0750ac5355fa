/**
 * `npm run guards [-- text]`: switches each guard of test/faults/guards.mjs off (those whose sentence or file has the text), in a copy
 * of the tree, and sees that the test named for it fails. What no test misses is either no guard or has no test.
 * First the same tests are run with all guards on: one that fails by itself shows nothing. Of a whole run the outcome is
 * written to docs/reliability.md.
 */
import { execFileSync, spawn } from "node:child_process";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GUARDS } from "../test/faults/guards.mjs";
import { prepare, root } from "./bootstrap.mjs";

const COPIED = ["src", "test", "sql", "scripts", "docs", "views", "public", "files", "bench", "package.json", "README.md", ".env.example", "render.yaml",
  "tsconfig.json", "tsconfig.scripts.json", "tsconfig.check.json", "vitest.config.ts"];

const wanted = process.argv[2] ?? "";
await prepare(["src", "scripts"]);
const { startTestServers } = await import("../dist/scripts/test-servers.js");
const servers = await startTestServers(root, (line) => console.log(line));
const folder = await mkdtemp(join(tmpdir(), "connectstorm-guards-"));
const guards = GUARDS.filter(({ guard, file }) => guard.includes(wanted) || file.includes(wanted));
let unmissed = 0;
try {
  for (const name of COPIED) await cp(join(root, name), join(folder, name), { recursive: true });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await runWithAllOn(guards);
  for (const guard of guards) unmissed += (await isMissed(guard)) ? 0 : 1;
} finally {
  await rm(folder, { recursive: true, force: true });
  await servers.stop();
}
if (wanted === "") await writeOutcome();
console.log(unmissed === 0 ? "\nEvery guard is missed by its test." : `\n${unmissed} guards are not missed.`);
process.exitCode = unmissed === 0 ? 0 : 1;

/** @throws where a test does not pass, or does not run here */
async function runWithAllOn(guards) {
  const built = await run("node_modules/typescript/bin/tsc", ["-p", "tsconfig.json"]);
  if (built.code !== 0) throw new Error(`the tree does not compile\n${built.output}`);
  const names = guards.map(({ test: [, name] }) => name);
  const only = names.includes("") ? [] : ["-t", names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")];
  const tested = await run("node_modules/vitest/vitest.mjs", ["run", ...new Set(guards.map(({ test: [file] }) => file)), ...only]);
  const [, passed] = /Tests\s.*?(\d+) passed/.exec(tested.output) ?? [];
  if (tested.code !== 0 || !passed) throw new Error(`with all guards on these tests do not pass\n${tested.output.slice(-3_000)}`);
  console.log(`✔ With all guards on ${passed} tests pass.`);
}

async function writeOutcome() {
  const page = join(root, "docs/reliability.md");
  const commit = execFileSync("git", ["rev-parse", "--short=10", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
  const outcome = unmissed === 0 ? "each was missed by its test, and the same tests passed with all of them on" : `**${unmissed} were not missed**`;
  const text = await readFile(page, "utf8");
  const line = `<!-- guards -->The last run: ${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${guards.length} guards; ${outcome}.<!-- /guards -->`;
  await writeFile(page, text.replace(/<!-- guards -->.*<!-- \/guards -->/, () => line));
}

async function isMissed({ guard, file, from, to, also, test: [testFile, testName] }) {
  const changes = [{ file, from, to }, ...(also ? [also] : [])];
  const before = new Map();
  for (const change of changes) {
    const text = await readFile(join(folder, change.file), "utf8");
    if (!before.has(change.file)) before.set(change.file, text);
    if (text.split(change.from).length !== 2) throw new Error(`${guard}: what is to be changed is not in ${change.file}, or more than once`);
    await writeFile(join(folder, change.file), text.replace(change.from, () => change.to));
  }
  try {
    const built = await run("node_modules/typescript/bin/tsc", ["-p", "tsconfig.json", "--noUnusedLocals", "false", "--noUnusedParameters", "false"]);
    if (built.code !== 0) {
      console.log(`✘ NOT SEEN    ${guard}\n             without it the code does not compile: ${built.output}`);
      return false;
    }
    const tested = await run("node_modules/vitest/vitest.mjs", ["run", testFile, ...(testName ? ["-t", testName] : [])]);
    const [, failed] = /Tests\s+(\d+) failed/.exec(tested.output) ?? [];
    const names = [...tested.output.matchAll(/^ FAIL .*? > (.*)$/gm)].map(([, name]) => name);
    console.log(`${failed ? "✔ missed    " : "✘ NOT MISSED"} ${guard}\n             ${testFile}: ${names[0] ?? (failed ? "" : tested.output.slice(-600))}`);
    return failed !== undefined;
  } finally {
    for (const [name, text] of before) await writeFile(join(folder, name), text);
  }
}

function run(program, args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, ...args], { cwd: folder, env: { ...process.env, ...servers.env, NO_COLOR: "1" }, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    child.once("close", (code) => resolve({ code, output }));
  });
}
