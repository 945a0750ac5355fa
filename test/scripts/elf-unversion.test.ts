import { describe, expect, test } from "vitest";
import { unversionElf } from "../../scripts/servers/elf-unversion.ts";

const HEADER = 64, SECTION = 64;

/** The smallest file with what the patch looks at: names, three symbols, their versions and the needed versions. */
function buildElf() {
  const names = Buffer.from("\0__isoc23_strtol\0strlcpy\0memcpy\0GLIBC_2.38\0GLIBC_2.14\0libc.so.6\0", "latin1");
  const nameAt = (name: string) => names.indexOf(`${name}\0`);
  const symbolNames = ["__isoc23_strtol", "strlcpy", "memcpy"];
  const symbols = Buffer.alloc(24 * symbolNames.length);
  symbolNames.forEach((name, index) => symbols.writeUInt32LE(nameAt(name), 24 * index));
  const versions = Buffer.alloc(2 * symbolNames.length);
  [2, 2, 3].forEach((version, index) => versions.writeUInt16LE(version, 2 * index));
  const needs = Buffer.alloc(16 * 3);
  needs.writeUInt16LE(2, 2);
  needs.writeUInt32LE(16, 8);
  [["GLIBC_2.38", 2], ["GLIBC_2.14", 3]].forEach(([name, version], index) => {
    const at = 16 * (index + 1);
    needs.writeUInt16LE(Number(version), at + 6);
    needs.writeUInt32LE(nameAt(String(name)), at + 8);
    needs.writeUInt32LE(index === 0 ? 16 : 0, at + 12);
  });
  const parts = [
    { type: 3, body: names, link: 0, info: 0 }, { type: 11, body: symbols, link: 0, info: 0 },
    { type: 0x6fffffff, body: versions, link: 1, info: 0 }, { type: 0x6ffffffe, body: needs, link: 0, info: 1 },
  ];
  const elf = Buffer.alloc(HEADER + SECTION * parts.length + parts.reduce((sum, { body }) => sum + body.length, 0));
  elf.writeUInt32BE(0x7f454c46, 0);
  elf.set([2, 1], 4);
  elf.writeBigUInt64LE(BigInt(HEADER), 0x28);
  elf.writeUInt16LE(SECTION, 0x3a);
  elf.writeUInt16LE(parts.length, 0x3c);
  const offsets: number[] = [];
  let offset = HEADER + SECTION * parts.length;
  parts.forEach(({ type, body, link, info }, index) => {
    const at = HEADER + SECTION * index;
    elf.writeUInt32LE(type, at + 4);
    elf.writeBigUInt64LE(BigInt(offset), at + 0x18);
    elf.writeBigUInt64LE(BigInt(body.length), at + 0x20);
    elf.writeUInt32LE(link, at + 0x28);
    elf.writeUInt32LE(info, at + 0x2c);
    body.copy(elf, offset);
    offsets.push(offset);
    offset += body.length;
  });
  const [namesAt = 0, symbolsAt = 0, versionsAt = 0, needsAt = 0] = offsets;
  const symbolName = (index: number) => {
    const start = namesAt + elf.readUInt32LE(symbolsAt + 24 * index);
    return elf.toString("latin1", start, elf.indexOf(0, start));
  };
  return { elf, symbolName, version: (index: number) => elf.readUInt16LE(versionsAt + 2 * index), flags: (index: number) => elf.readUInt16LE(needsAt + 16 * (index + 1) + 4) };
}

describe("a shared object made for a newer glibc", () => {
  test("asks for any version of the new symbols, and for the plain ones where only the new glibc has them", () => {
    const { elf, symbolName, version } = buildElf();
    expect(unversionElf(elf, 36)).toEqual(["__isoc23_strtol@GLIBC_2.38 -> strtol", "strlcpy@GLIBC_2.38 -> strlcpy"]);
    expect([symbolName(0), symbolName(1), symbolName(2)]).toEqual(["strtol", "strlcpy", "memcpy"]);
    expect([version(0), version(1), version(2)]).toEqual([1, 1, 3]);
  });

  test("needs the newer version only weakly, and the old one as before", () => {
    const { elf, flags } = buildElf();
    unversionElf(elf, 36);
    expect([flags(0), flags(1)]).toEqual([2, 0]);
  });

  test("stays as it is when the machine's glibc has it all, and when it was changed before", () => {
    const { elf } = buildElf();
    const before = Buffer.from(elf);
    expect(unversionElf(elf, 38)).toEqual([]);
    expect(elf.equals(before)).toBe(true);
    unversionElf(elf, 36);
    expect(unversionElf(elf, 36)).toEqual([]);
  });

  test("must be a 64-bit little-endian ELF file", () => {
    expect(() => unversionElf(Buffer.from("#!/bin/sh\n".repeat(20)), 36)).toThrow("not a 64-bit");
  });
});
