import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const READ_EVENTS = join(import.meta.dirname, "../../dist/events/read-events.js");
const HEAP_MIB = 64;

/** Reads a body of ten megabytes in a process with little memory. @returns what became of it */
async function read(body: string): Promise<string> {
  const program = `
    import { readEvents } from ${JSON.stringify(READ_EVENTS)};
    const fill = (unit) => unit.repeat(Math.floor((10 * 1024 * 1024 - 2) / unit.length));
    const outcome = await readEvents(Buffer.from(${body}), () => "no event").then(({ refused }) => refused.length + " refused", ({ code }) => code);
    process.stdout.write(String(outcome));`;
  const { stdout } = await promisify(execFile)(process.execPath, [`--max-old-space-size=${HEAP_MIB}`, "--input-type=module", "-e", program], { timeout: 25_000, killSignal: "SIGKILL" });
  return stdout;
}

test.each([
  ["empty objects", '"[" + fill("{},") + "{}]"', "TOO_MANY_EVENTS"],
  ["empty lists", '"[" + fill("[],") + "[]]"', "TOO_MANY_EVENTS"],
  ["numbers", '"[" + fill("1,") + "1]"', "TOO_MANY_EVENTS"],
  ["lines", 'fill("1\\n")', "TOO_MANY_EVENTS"],
  ["one event of brackets", '"[" + fill("[") + "]"', "MALFORMED_REQUEST"],
  ["one event of lists", '"[[" + fill("[],") + "[]]]"', "1 refused"],
  ["one line of lists", '"{" + fill("[],")', "1 refused"],
  ["empty lines", 'fill("\\n")', "INVALID_EVENT"],
  ["a string without end", '"[\\"" + fill("x")', "MALFORMED_REQUEST"],
  ["a string of escapes", '"[\\"" + fill("\\\\\\\\") + "\\"]"', "1 refused"],
])("ten megabytes of %s do not take more memory than there is", async (_what, body, outcome) => {
  expect(await read(body)).toBe(outcome);
});
