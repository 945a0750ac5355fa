import { randomBytes, randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileTypeFromBuffer } from "file-type";
import { expect, test } from "vitest";
import { mayHaveMagic } from "../../src/objects/magic.ts";

const source = readFileSync(join(dirname(createRequire(import.meta.url).resolve("file-type")), "core.js"), "utf8");

/** Every signature of the installed file-type that stands at a fixed place. */
const signatures = [...source.matchAll(/this\.check(String)?\(\s*(\[[^\]]*\]|'(?:[^'\\]|\\.)*')(?:,\s*(\{[^}]*\}))?\)/g)].flatMap(([, isString, header, options = ""]) => {
  const offset = /offset:\s*([^,}]+)/.exec(options)?.[1]?.trim() ?? "0";
  if (!/^\d+$/.test(offset)) return [];
  // The literals are file-type's own: numbers in brackets, or text in single quotes.
  const value: unknown = new Function(`return ${header}`)();
  const encoding = /utf-16be/.test(options) ? "be" : /encoding/.test(options) ? "le" : "latin1";
  const bytes = isString ? encode(value as string, encoding) : Buffer.from(value as number[]);
  return [{ offset: Number(offset), bytes }];
});

function encode(text: string, encoding: string): Buffer {
  return encoding === "latin1" ? Buffer.from(text, "latin1") : encoding === "le" ? Buffer.from(text, "utf16le") : Buffer.from(text, "utf16le").swap16();
}

test("file-type finds nothing where the gate says that there is nothing", async () => {
  expect(signatures.length).toBeGreaterThan(150);
  let found = 0;
  for (let round = 0; round < 40; round++) {
    for (const signature of signatures) {
      const bytes = round % 2 === 0 ? Buffer.alloc(600) : randomBytes(600);
      if (round % 2 === 0) bytes.fill(0x20); // a neighbour of neither magic nor zeros
      signature.bytes.copy(bytes, signature.offset);
      // Some formats have two signatures: plant a second one half of the time.
      const other = signatures[randomInt(signatures.length)]!;
      if (round % 4 >= 2) other.bytes.copy(bytes, other.offset);
      const known = await fileTypeFromBuffer(bytes).catch(() => undefined);
      if (!known) continue;
      found++;
      expect(mayHaveMagic(bytes), `${known.mime}: ${bytes.subarray(0, 16).toString("hex")}`).toBe(true);
    }
  }
  expect(found).toBeGreaterThan(2_000);
});

test("random bytes are told apart at once, all but a few", () => {
  const passed = Array.from({ length: 2_000 }, () => randomBytes(1_024)).filter(mayHaveMagic).length;
  expect(passed).toBeLessThan(100);
});

test("so are no bytes and few bytes", () => {
  expect([Buffer.alloc(0), Buffer.from("x"), Buffer.from([0x80, 0x81])].map(mayHaveMagic)).toEqual([false, false, false]);
});
