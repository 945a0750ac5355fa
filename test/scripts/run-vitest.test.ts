import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "run-vitest-"));
  await symlink(resolve("node_modules"), join(root, "node_modules"));
  await writeFile(join(root, "vitest.config.mjs"), `export default { test: { pool: "forks", maxWorkers: 2 } };`);
  await write("fine", `test("a", () => {}); test.skip("b", () => {});`);
});
afterEach(() => rm(root, { recursive: true }));

const DIE = `process.kill(process.pid, "SIGSEGV"); await new Promise(() => {});`;
const ONCE = `const isFirst = !existsSync("seen"); writeFileSync("seen", ""); if (isFirst) { ${DIE} }`;

async function write(name: string, text: string): Promise<void> {
  await writeFile(join(root, `${name}.test.mjs`), `import { existsSync, writeFileSync } from "node:fs"; import { expect, test } from "vitest"; ${text}`);
}

/** What `npm test` does once its servers run, there: exit code and standard output. */
async function run(...args: string[]): Promise<{ code: number; output: string; lastLine: string }> {
  const program = `import { runAndCount } from ${JSON.stringify(resolve("dist/scripts/test.js"))};
    process.exitCode = await runAndCount({ root: process.cwd(), args: ${JSON.stringify(args)}, env: {}, interrupted: new AbortController().signal });`;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("VITEST") && name !== "TEST"));
  return new Promise((done) => {
    execFile(process.execPath, ["--input-type=module", "-e", program], { cwd: root, env }, (error, output) =>
      done({ code: error ? Number(error.code) : 0, output, lastLine: output.trimEnd().split("\n").at(-1)! }));
  });
}

test("a file whose process dies while it loads is run once more, and both are said", async () => {
  await write("dies", `${ONCE} test("c", () => {});`);
  const { code, output, lastLine } = await run();
  expect({ code, lastLine }).toEqual({ code: 0, lastLine: "2 passed, 0 failed, 1 skipped" });
  expect(output).toContain("Processes of tests that died: SIGSEGV.");
  expect(output).toContain("Once more, as its process died before its first test: dies.test.mjs\n");
});

test("one that dies again has failed", async () => {
  await write("dies", `${DIE} test("c", () => {});`);
  expect(await run()).toMatchObject({ code: 1, lastLine: "1 passed, 1 failed, 1 skipped" });
});

test("one that fails the second time has failed", async () => {
  await write("dies", `${ONCE} test("c", () => { expect(1).toBe(2); });`);
  expect(await run()).toMatchObject({ code: 1, lastLine: "1 passed, 1 failed, 1 skipped" });
});

test.each([
  ["dies in a test", `test("c", async () => { ${ONCE} });`],
  ["dies after its tests", `import { afterAll } from "vitest"; afterAll(async () => { ${ONCE} }); test("c", () => {});`],
  ["ends itself", `${ONCE.replace(DIE, "process.exit(7);")} test("c", () => {});`],
  ["has an error outside its tests", `test("c", async () => { setTimeout(() => { throw new Error("late"); }); await new Promise((done) => setTimeout(done, 100)); });`],
])("a process that %s is a failure, and is not run once more", async (_what, text) => {
  await write("dies", text);
  const { code, output, lastLine } = await run();
  expect(output).not.toContain("Once more");
  expect(code).toBe(1);
  expect(lastLine).toMatch(/, [1-9]\d* failed/);
});

test("a lost file does not make good what failed beside it", async () => {
  await write("dies", `${ONCE} test("c", () => {});`);
  await write("fails", `test("d", () => { expect(1).toBe(2); });`);
  expect(await run()).toMatchObject({ code: 1, lastLine: "2 passed, 1 failed, 1 skipped" });
});

test("three files that are lost are no chance, and neither is one in a run of chosen files", async () => {
  await write("dies", `${ONCE} test("c", () => {});`);
  expect(await run("dies", "fine")).toMatchObject({ code: 1, lastLine: "1 passed, 1 failed, 1 skipped" });
  for (const name of ["dies", "two", "three"]) await write(name, `${DIE} test("c", () => {});`);
  const { code, output } = await run();
  expect(code).toBe(1);
  expect(output).not.toContain("Once more");
});
