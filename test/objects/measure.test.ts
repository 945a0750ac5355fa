import { fileTypeFromBuffer } from "file-type";
import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { createMeasure, sha256Of, sniffType } from "../../src/objects/measure.ts";

test("a measure knows the size and the hash of all that passed", () => {
  const bytes = randomBytes(100_000);
  const measure = createMeasure();
  for (let at = 0; at < bytes.length; at += 7_001) measure.update(bytes.subarray(at, at + 7_001));
  expect(measure.sizeBytes).toBe(bytes.length);
  expect(measure.sha256()).toBe(createHash("sha256").update(bytes).digest("hex"));
});

test("of no bytes, too", () => {
  expect(createMeasure().sha256()).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect(sha256Of(new Uint8Array(0))).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
});

const png = Buffer.concat([Buffer.from("89504e470d0a1a0a0000000d49484452", "hex"), Buffer.alloc(17), Buffer.from("00000004", "hex"), Buffer.from("IDAT"), Buffer.alloc(99)]);
const tar = Buffer.alloc(4_100);
tar.write("readme.txt");
tar.write("ustar\0", 257);

const typed: [string, Buffer, string][] = [
  ["a PNG", png, "image/png"],
  ["a JPEG", Buffer.concat([Buffer.from("ffd8ffe000104a464946", "hex"), randomBytes(3_000)]), "image/jpeg"],
  ["a GIF", Buffer.from("GIF89a\u0001\0\u0001\0"), "image/gif"],
  ["a PDF", Buffer.from("%PDF-1.7\n1 0 obj\n"), "application/pdf"],
  ["PostScript", Buffer.from("%!PS-Adobe-3.0\n"), "application/postscript"],
  ["XML", Buffer.from('<?xml version="1.0"?><a/>'), "application/xml"],
  ["XML after a byte order mark", Buffer.from('\u{FEFF}<?xml version="1.0"?><a/>'), "application/xml"],
  ["RTF", Buffer.from("{\\rtf1\\ansi hello}"), "application/rtf"],
  ["a calendar", Buffer.from("BEGIN:VCALENDAR\nVERSION:2.0\n"), "text/calendar"],
  ["a visiting card", Buffer.from("BEGIN:VCARD\nVERSION:3.0\n"), "text/vcard"],
  ["subtitles", Buffer.from("WEBVTT\n\n00:01.000 --> 00:04.000\nHi\n"), "text/vtt"],
  ["a PGP message", Buffer.from("-----BEGIN PGP MESSAGE-----\n\nhQ==\n"), "application/pgp-encrypted"],
  ["a gzip", gzipSync(randomBytes(100)), "application/gzip"],
  ["a tar in a gzip", gzipSync(tar), "application/gzip"],
  ["a tar", tar, "application/x-tar"],
  ["an empty zip", Buffer.concat([Buffer.from("PK\u0005\u0006"), Buffer.alloc(18)]), "application/zip"],
];
test.each(typed)("%s is known by its magic, as file-type knows it", async (_what, bytes, type) => {
  expect(await sniffType(bytes)).toBe(type);
  expect((await fileTypeFromBuffer(bytes))?.mime).toBe(type);
});

const untyped: [string, Buffer][] = [
  ["nothing", Buffer.alloc(0)],
  ["one byte", Buffer.from("x")],
  ["text", Buffer.from("hello world\n".repeat(500))],
  ["text in UTF-8", Buffer.from("\u{FEFF}hätte, 😀, 日本語\n")],
  ["text in UTF-16", Buffer.from("\u{FEFF}hi there", "utf16le")],
  ["CSV", Buffer.from("a,b\n1,2\n")],
  ["JSON", Buffer.from('{"a":[1,2,3]}')],
  ["words that are magic elsewhere", Buffer.from("BMX, MZ and GIFs are text here")],
  ["zeros", Buffer.alloc(5_000)],
  ["a gzip that is cut off after its first byte", Buffer.from([0x1f])],
  ["a zip that is none", Buffer.concat([Buffer.from("PK\u0003\u0003"), randomBytes(50)])],
];
test.each(untyped)("%s has no type", async (_what, bytes) => {
  expect(await sniffType(bytes)).toBeUndefined();
});

test("no bytes make it throw", async () => {
  for (const [, bytes] of typed) {
    for (let length = 0; length < Math.min(bytes.length, 64); length += 1) await sniffType(bytes.subarray(0, length));
    await sniffType(Buffer.concat([bytes.subarray(0, 16), randomBytes(200)]));
  }
});
