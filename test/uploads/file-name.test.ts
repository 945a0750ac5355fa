import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanFileName } from "../../src/uploads/file-name.ts";
import { ask, expectRefusal, inboxOf } from "../http/raw.ts";
import { openWorld, type World } from "../support/world.ts";

const bytes = (text: string) => Buffer.byteLength(text);

describe("a file is known by", () => {
  test.each<[string, string, string]>([
    ["its name", "report.pdf", "report.pdf"],
    ["the last part of a unix path", "/etc/passwd", "passwd"],
    ["the last part of a windows path", "C:\\Users\\me\\report.pdf", "report.pdf"],
    ["the last part of a mixed path", "C:\\a/b\\c.txt", "c.txt"],
    ["the last part of a network path", "\\\\server\\share\\c.txt", "c.txt"],
    ["the last part of a path that climbs", "../../../../etc/cron.d/job", "job"],
    ["a name that begins with a dot", ".gitignore", ".gitignore"],
    ["a name of three dots", "...", "..."],
    ["a name that ends in a dot", "name.", "name."],
    ["a name with two dots", "a..b", "a..b"],
    ["its name without the blanks around it", "  a b.txt\u3000", "a b.txt"],
    ["its name without control characters", "a\u0007b\u001f\u007f.txt", "ab.txt"],
    ["its name without line breaks", "a\r\nX-Evil: 1\r\n\r\nb.txt", "aX-Evil: 1b.txt"],
    ["its name without C1 control characters", "a\u0085\u009bb.txt", "ab.txt"],
    ["its name without encoded control characters", "a%0d%0Ab%1B%7f.txt", "ab.txt"],
    ["its name without those that appear when one is taken out", "a%%0101b%0%1f7.txt", "ab.txt"],
    ["its name without line separators", "a\u2028b\u2029.txt", "ab.txt"],
    ["its name without a right-to-left override", "annual_\u202Efdp.exe", "annual_fdp.exe"],
    ["its name without other marks of direction", "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u2066\u2067\u2068\u2069a.txt", "a.txt"],
    ["its name without a byte order mark", "\ufeffa.txt", "a.txt"],
    ["a name in which a mark hid two dots among letters", "a.\u202e.b", "a..b"],
    ["a name whose percent signs encode nothing", "100%.txt", "100%.txt"],
    ["a name whose percent signs encode what can be seen", "a%20b%2Fc%C3%BC.txt", "a%20b%2Fc%C3%BC.txt"],
    ["a name in any script", "東京 Übung مرحبا नमस्ते 👩‍👩‍👧.txt", "東京 Übung مرحبا नमस्ते 👩‍👩‍👧.txt"],
    ["a name as it was composed", "u\u0308ber.txt", "u\u0308ber.txt"],
    ["a name with quotes and signs", `a"b'c;d,e=f<g>h|i?j*k:l&m.txt`, `a"b'c;d,e=f<g>h|i?j*k:l&m.txt`],
    ["a name that is a formula in a spreadsheet", "=cmd|'calc'!A0.csv", "=cmd|'calc'!A0.csv"],
    ["a name that is an option", "-rf", "-rf"],
    ["a name that is a device", "CON", "CON"],
    ["a name that is code", "${jndi:ldap:x}{{7*7}}<%= 1 %>.txt", "${jndi:ldap:x}{{7*7}}<%= 1 %>.txt"],
    ["a name with half a character", "a\ud83db.txt", "a\ufffdb.txt"],
    ["a name with a low surrogate alone", "\ude80.txt", "\ufffd.txt"],
    ["__proto__", "__proto__", "__proto__"],
    ["exactly 255 bytes", "a".repeat(251) + ".txt", "a".repeat(251) + ".txt"],
    ["exactly 255 bytes of two each and one", "ü".repeat(125) + "a.txt", "ü".repeat(125) + "a.txt"],
    ["255 of 256 bytes", "a".repeat(252) + ".txt", "a".repeat(251) + ".txt"],
    ["255 of 300 bytes without an ending", "a".repeat(300), "a".repeat(255)],
    ["whole characters of two bytes", "ü".repeat(150) + ".txt", "ü".repeat(125) + ".txt"],
    ["whole characters of four bytes", "🚀".repeat(75) + ".txt", "🚀".repeat(62) + ".txt"],
    ["the last ending of two", "a".repeat(300) + ".tar.gz", "a".repeat(252) + ".gz"],
    ["no ending that is longer than endings are", "a." + "b".repeat(300), "a." + "b".repeat(253)],
    ["an ending of other letters", "a".repeat(300) + ".доку", "a".repeat(246) + ".доку"],
    ["no blank where it was cut", "a".repeat(254) + " b", "a".repeat(254)],
  ])("%s", (_what, raw, name) => {
    expect(cleanFileName(raw)).toBe(name);
  });

  test.each([
    ["nothing", ""], ["blanks", " \t\n "], ["one dot", "."], ["two dots", ".."], ["two dots behind a path", "/a/b/.."], ["two dots behind a windows path", "a\\.."],
    ["a path that ends in a slash", "a/b/"], ["a path that ends in a backslash", "C:\\"], ["only control characters", "\u0001\u0002%0a"],
    ["only marks", "\u202e\u2066"], ["two dots with a mark between", ".\u202e."], ["two dots with blanks around", " .. "], ["two dots with an encoded control between", ".%0a."],
    ["NUL", "\0"], ["NUL in a name", "a\0.txt"], ["NUL in the path", "a\0/b.txt"], ["NUL that hides an ending", "a.exe\0.txt"],
    ["an encoded NUL", "a%00.txt"], ["an encoded NUL in the path", "%00/b.txt"],
  ])("but not by %s", (_what, raw) => {
    expect(() => cleanFileName(raw)).toThrow(expect.objectContaining({ code: "INVALID_FILE_NAME" }));
  });

  test("a name that is harmless and short, whatever was sent, and cleaning it again changes nothing", () => {
    const piece = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom(..."/\\.% \u202e\0\r\n\ud800", "%0", "1", "%01", "..", "%%", "ü", "🚀", "a".repeat(120)));
    fc.assert(fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      let name: string;
      try {
        name = cleanFileName(pieces.join(""));
      } catch (error) {
        expect(error).toMatchObject({ code: "INVALID_FILE_NAME" });
        return;
      }
      expect(bytes(name)).toBeLessThanOrEqual(255);
      expect(name.isWellFormed()).toBe(true);
      expect(name).not.toMatch(/[/\\\p{Cc}\p{Bidi_Control}]|%[01][0-9a-f]|%7f|^\.{0,2}$|^\s|\s$/iu);
      expect(cleanFileName(name)).toBe(name);
    }), { numRuns: 2_000 });
  });

  test("a name of 16 KB is cleaned in no time", () => {
    for (const raw of ["%".repeat(8_000) + "01".repeat(4_000), "\u202e".repeat(16_000) + "a", ".".repeat(16_000), "a.".repeat(8_000), " ".repeat(16_000) + "a"]) {
      const startedAt = performance.now();
      cleanFileName(raw);
      expect(performance.now() - startedAt).toBeLessThan(1_000); // quadratic, it would be minutes
    }
  });
});

describe("over HTTP", () => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
  });
  afterAll(() => world.close());

  function form(disposition: string | Buffer) {
    const body = Buffer.concat([Buffer.from('--b\r\nContent-Disposition: form-data; name="file"; '), Buffer.from(disposition), Buffer.from("\r\n\r\nhello\r\n--b--\r\n")]);
    const head = `POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: ${body.length}\r\n\r\n`;
    return ask(world.url, Buffer.concat([Buffer.from(head), body]));
  }
  const put = (path: string) => ask(world.url, `PUT /api/upload/${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`);

  describe("the name in a form", () => {
    test.each<[string, string | Buffer, string]>([
      ["plain", 'filename="a.txt"', "a.txt"],
      ["without quotes", "filename=a.txt", "a.txt"],
      ["as plain UTF-8", 'filename="Übung 東京 🚀.txt"', "Übung 東京 🚀.txt"],
      ["as filename*", "filename*=UTF-8''%C3%9Cbung%20%E6%9D%B1%E4%BA%AC.txt", "Übung 東京.txt"],
      ["as filename* in latin1", "filename*=ISO-8859-1'de'%DCbung.txt", "Übung.txt"],
      ["as both: the better one counts", "filename=\"fallback.txt\"; filename*=UTF-8''%C3%BC.txt", "ü.txt"],
      ["in bytes that are no UTF-8", Buffer.concat([Buffer.from('filename="a'), Buffer.from([0xff]), Buffer.from('.txt"')]), "a\ufffd.txt"],
      ["in bytes of half a character", Buffer.concat([Buffer.from('filename="a'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('.txt"')]), "a\ufffd\ufffd\ufffd.txt"],
      ["with quotes as browsers send them", 'filename="a%22b%22.txt"', 'a"b".txt'],
      ["with quotes as curl sends them", 'filename="a\\"b\\".txt"', 'a"b".txt'],
      ["with a line break as browsers send it", 'filename="a%0D%0Ab.txt"', "ab.txt"],
      ["with a semicolon", 'filename="a;b; name=c.txt"', "a;b; name=c.txt"],
      ["with a backslash, as curl sends it", 'filename="a\\\\b.txt"', "b.txt"],
      ["with a windows path", 'filename="C:\\Users\\me\\a.txt"', "a.txt"],
      ["with a unix path", 'filename="/home/me/a.txt"', "a.txt"],
      ["with a path in filename*", "filename*=UTF-8''..%2F..%2Fetc%2Fpasswd", "passwd"],
      ["with percent signs that are meant", 'filename="50%25 of 100%.txt"', "50%25 of 100%.txt"],
      ["with an override of direction", 'filename="annual_\u202efdp.exe"', "annual_fdp.exe"],
      ["with a formula", "filename=\"=cmd|'calc'!A0.csv\"", "=cmd|'calc'!A0.csv"],
      ["of 300 bytes", `filename="${"ü".repeat(148)}.txt"`, "ü".repeat(125) + ".txt"],
      ["of 255 bytes", `filename="${"a".repeat(251)}.txt"`, "a".repeat(251) + ".txt"],
    ])("%s, is the receipt's and the download's", async (_how, disposition, name) => {
      await expectName(await form(disposition), name);
    });

    test.each([
      ["two dots", 'filename=".."'], ["one dot", 'filename="."'], ["a path that ends in two dots", 'filename="a/.."'], ["a folder", 'filename="a/b/"'], ["blanks", 'filename="   "'],
      ["an encoded NUL", 'filename="a%00.txt"'], ["NUL in filename*", "filename*=UTF-8''a%00.txt"], ["a line break only", 'filename="%0A"'],
    ])("is refused when it is %s", async (_what, disposition) => {
      expectRefusal(await form(disposition), "INVALID_FILE_NAME");
    });
  });

  describe("the name in the address", () => {
    test.each<[string, string, string]>([
      ["plain", "a.txt", "a.txt"],
      ["percent-encoded UTF-8", encodeURIComponent("Übung 東京 🚀.txt"), "Übung 東京 🚀.txt"],
      ["with signs that need no encoding", "a'b;c=d,e@f:g&h+i.txt", "a'b;c=d,e@f:g&h+i.txt"],
      ["with quotes", "a%22b%22.txt", 'a"b".txt'],
      ["with a line break", "a%0D%0Ab.txt", "ab.txt"],
      ["with a unix path", "..%2F..%2Fetc%2Fpasswd", "passwd"],
      ["with a windows path", "C%3A%5Ca.txt", "a.txt"],
      ["with a percent sign", "100%25.txt", "100%.txt"],
      ["with a control character, encoded twice", "a%250Ab.txt", "ab.txt"],
      ["with an override of direction", `annual_${encodeURIComponent("\u202e")}fdp.exe`, "annual_fdp.exe"],
      ["with a formula", "=cmd%7C'calc'!A0.csv", "=cmd|'calc'!A0.csv"],
      ["of 300 bytes", `${encodeURIComponent("ü".repeat(148))}.txt`, "ü".repeat(125) + ".txt"],
      ["of 255 bytes", `${"a".repeat(251)}.txt`, "a".repeat(251) + ".txt"],
      ["behind which a question stands", "a.txt?x=y", "a.txt"],
      ["with a slash behind it", "a.txt/", "a.txt"],
      ["__proto__", "__proto__", "__proto__"],
    ])("%s, is the receipt's and the download's", async (_how, path, name) => {
      await expectName(await put(path), name);
    });

    test.each([
      ["two dots", ".."], ["two encoded dots", "%2e%2E"], ["one dot", "."], ["a path that ends in two dots", "a%2f.."], ["a folder", "a%2F"], ["a blank", "%20"],
      ["NUL", "a%00.txt"], ["NUL, encoded twice", "a%2500.txt"], ["a line break only", "%0A"],
    ])("is refused when it is %s", async (_what, path) => {
      expectRefusal(await put(path), "INVALID_FILE_NAME");
    });
  });

  test("nothing of what was refused is kept", async () => {
    await world.settleAll();
    expect(await inboxOf(world)).toEqual([]);
  });

  async function expectName(answer: { status: number; text: string }, name: string) {
    const receipt = JSON.parse(answer.text);
    expect([answer.status, receipt.filename]).toEqual([202, name]);
    const download = await fetch(`${world.url}/api/files/${receipt.file_id}`);
    const disposition = download.headers.get("content-disposition")!;
    const encoded = /filename\*=UTF-8''([^;]+)/.exec(disposition)?.[1];
    const quoted = /filename="((?:[^"\\]|\\.)*)"/.exec(disposition)?.[1]?.replace(/\\(.)/g, "$1") ?? /filename=([^;]+)/.exec(disposition)?.[1];
    expect(encoded === undefined ? quoted : decodeURIComponent(encoded)).toBe(name);
    expect(disposition).toMatch(/^attachment; filename/);
    await download.arrayBuffer();
  }
});
