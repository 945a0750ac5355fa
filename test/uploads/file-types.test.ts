import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Failure } from "../../src/core/errors.ts";
import { sniffType } from "../../src/objects/measure.ts";
import { checkFileType, contentTypeOf } from "../../src/uploads/file-types.ts";
import { inboxOf } from "../http/raw.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==", "base64");
const gif = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");
const exe = Buffer.concat([Buffer.from("MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0", "latin1"), Buffer.alloc(2_000)]);
const pdf = Buffer.from("%PDF-1.7\n1 0 obj\n<<>>\nendobj\n");
const zip = Buffer.from("504b0506000000000000000000000000000000000000", "hex");
const csv = Buffer.from("name,size\na,1\nü,2\n");
const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>');
const svgWithProlog = Buffer.from('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>');
const noise = Buffer.from([0x80, 0x00, 0x01, 0x02, 0xfe, 0x00, 0x10, 0x99]);
/** The same beginning, more than is kept in memory. */
const large = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(200_000, bytes.includes(0) ? 0 : "more, of it\n")]);

describe("the type of a file is", () => {
  test.each<[string, string | undefined, string | undefined, string, string]>([
    ["what its first bytes say, before all", "image/png", "text/html", "a.txt", "image/png"],
    ["else what the client says", undefined, "text/html", "a.txt", "text/html"],
    ["without its parameters", undefined, "text/html; charset=utf-8; boundary=x", "a.txt", "text/html"],
    ["in lower case", undefined, " Text/HTML ", "a.txt", "text/html"],
    ["else what the name's ending says", undefined, undefined, "a.csv", "text/csv"],
    ["the ending's, where the client says it does not know", undefined, "application/octet-stream", "a.csv", "text/csv"],
    ["the ending's in any case", undefined, undefined, "A.CSV", "text/csv"],
    ["the ending's, where the client says nonsense", undefined, "nonsense", "a.json", "application/json"],
    ["the ending's, where the client sends another header", undefined, "text/html\r\nX: y", "a.json", "application/json"],
    ["the ending's, where the client sends a wildcard", undefined, "*/*", "a.json", "application/json"],
    ["the ending's, where the client sends 300 characters", undefined, `text/${"x".repeat(300)}`, "a.json", "application/json"],
    ["else bytes", undefined, undefined, "noending", "application/octet-stream"],
    ["bytes, where the ending says nothing", undefined, undefined, "a.nobodyknows", "application/octet-stream"],
    ["bytes, where the name is an object's property", undefined, undefined, "a.__proto__", "application/octet-stream"],
    ["bytes, where the name is another", undefined, "", "constructor", "application/octet-stream"],
  ])("%s", (_what, sniffed, declared, name, type) => {
    expect(contentTypeOf(sniffed, declared, name)).toBe(type);
  });
});

describe("where only some types are accepted", () => {
  const some = ["image/png", "text/csv"];
  test.each<[string, readonly string[], Buffer, string | undefined, "taken" | "refused"]>([
    ["a PNG that says so", some, png, "image/png", "taken"],
    ["a PNG that says text", some, png, "text/plain", "taken"],
    ["a PNG that says nothing", some, png, undefined, "taken"],
    ["a PNG that says executable", some, png, "application/x-msdownload", "taken"],
    ["a GIF that says PNG", some, gif, "image/png", "refused"],
    ["a GIF where all images are", ["image/*"], gif, undefined, "taken"],
    ["a PDF where all images are", ["image/*"], pdf, "image/png", "refused"],
    ["an executable that says PNG", some, exe, "image/png", "refused"],
    ["an executable that says CSV", some, exe, "text/csv", "refused"],
    ["an executable that says nothing", some, exe, undefined, "refused"],
    ["text that says PNG", some, csv, "image/png", "refused"],
    ["text that says CSV", some, csv, "text/csv", "taken"],
    ["text that says CSV in capitals, with a charset", some, csv, "Text/CSV; charset=utf-8", "taken"],
    ["text that says text", some, csv, "text/plain", "refused"],
    ["text that says nothing", some, csv, undefined, "refused"],
    ["text that says it is unknown", some, csv, "application/octet-stream", "refused"],
    ["noise that says CSV", some, noise, "text/csv", "refused"],
    ["noise that says PNG", some, noise, "image/png", "refused"],
    ["noise that says nothing", some, noise, undefined, "refused"],
    ["noise that says it is unknown, where unknown is on the list", ["application/octet-stream"], noise, "application/octet-stream", "refused"],
    ["a ZIP that says CSV", some, zip, "text/csv", "refused"],
    ["an SVG where all images are", ["image/*"], svg, "image/svg+xml", "taken"],
    ["an SVG with a prolog", ["image/svg+xml"], svgWithProlog, "image/svg+xml", "taken"],
    ["an SVG where only PNG is", some, svg, "image/svg+xml", "refused"],
    ["JSON where all JSON is", ["application/json"], Buffer.from('{"a":1}'), "application/json", "taken"],
    ["GeoJSON", ["application/geo+json"], Buffer.from('{"type":"Point"}'), "application/geo+json", "taken"],
    ["an executable where all applications are", ["application/*"], exe, "text/csv", "taken"],
    ["a type whose beginning is on the list", ["image/pn"], png, "image/png", "refused"],
    ["a type where a wildcard of types is", ["image*"], png, "image/png", "refused"],
    ["anything where there is no list", [], exe, undefined, "taken"],
  ])("%s", async (_what, allowed, bytes, declared, outcome) => {
    const sniffed = await sniffType(bytes);
    const check = () => checkFileType(allowed, sniffed, declared, bytes);
    if (outcome === "taken") return check();
    expect(check).toThrow(expect.objectContaining({ code: "FILE_TYPE_NOT_ALLOWED", message: expect.stringContaining(allowed.join(", ")) } satisfies Partial<Failure>));
  });
});

describe("with ALLOWED_TYPES=image/png, text/csv", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld({ ALLOWED_TYPES: "image/png, Text/CSV", SMALL_OBJECT_BYTES: "4096" });
  });
  afterAll(() => world.close());

  describe.each([["small", (bytes: Buffer) => bytes], ["large", large]] as const)("a %s upload", (_size, grown) => {
    test.each([
      ["a PNG that says so", png, "image/png", 202],
      ["a PNG that says text", png, "text/plain", 202],
      ["a CSV that says so", csv, "text/csv", 202],
      ["text that says PNG", csv, "image/png", 415],
      ["an executable that says PNG", exe, "image/png", 415],
      ["an executable that says CSV", exe, "text/csv", 415],
      ["a GIF that says PNG", gif, "image/png", 415],
    ])("of %s is answered %4$i by both doors", async (_what, bytes, type, status) => {
      for (const response of [await world.upload(grown(bytes), { type }), await world.put("a.bin", grown(bytes), { "Content-Type": type })]) {
        const answer = (await response.json()) as { code?: string; file_id: string };
        expect([response.status, answer.code]).toEqual([status, status === 415 ? "FILE_TYPE_NOT_ALLOWED" : undefined]);
        if (status === 202) {
          const download = await fetch(`${world.url}/api/files/${answer.file_id}`);
          expect(download.headers.get("content-type")).toBe(bytes === png ? "image/png" : type);
          await download.arrayBuffer();
        }
      }
      await world.settleAll();
      await eventually(() => inboxOf(world), []);
    });
  });

  test("the upload page says which they are", async () => {
    const page = await (await fetch(`${world.url}/upload`)).text();
    expect(page).toContain('accept="image/png,text/csv"');
  });
});
