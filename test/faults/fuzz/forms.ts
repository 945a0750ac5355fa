import fc from "fast-check";
import { LIMITS, onTheWire, sha256Of, type Framing, type FuzzRequest, type WireFault } from "./request.ts";

/** Forms of all kinds: well-formed ones, and ones with something wrong in the head, a part, the bytes or the framing. */

const text = (characters: string, minLength: number, maxLength: number) =>
  fc.array(fc.constantFrom(...characters), { minLength, maxLength }).map((some) => some.join(""));
const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** RFC 2046, 5.1.1. What is no token has to stand in quotes. */
const boundary = fc.oneof(
  text(`${LETTERS}'+_-.`, 1, 70).map((name) => ({ name, quoted: false })),
  text(`${LETTERS}'+_-.()/:=?,`, 1, 70).map((name) => ({ name, quoted: true })),
  fc.constantFrom("-", "--", "----", "b", "a b", "----WebKitFormBoundaryABC").map((name) => ({ name, quoted: true })));

/** Bytes of a file; "near" stands for what almost is the boundary. */
const content = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => () => Buffer.from(bytes)),
  fc.array(fc.constantFrom("\r\n", "\r", "\n", "--", "\r\n--", "\r\n-", "near", "\0", "é", "Content-Type: x\r\n\r\n"), { minLength: 1, maxLength: 12 })
    .map((pieces) => (name: string) => Buffer.from(pieces.join("").replaceAll("near", `\r\n--${name.slice(0, -1)}`))),
  fc.integer({ min: 1_000, max: 40_000 }).map((size) => () => Buffer.alloc(size, "some large file, ")));

const disposition = fc.constantFrom(
  'filename="a.txt"', "filename=a.txt", 'filename="Übung 東京.txt"', "filename*=UTF-8''%C3%BC.txt", "filename=\"a.txt\"; filename*=UTF-8''%C3%BC.txt",
  "filename*=ISO-8859-1'de'%DC.txt", 'filename="a\\"b\\".txt"', 'filename="a;b.txt"', 'filename="C:\\dir\\a.txt"', 'filename="=cmd.csv"', `filename="${"ü".repeat(200)}.txt"`);
const partHeaders = fc.subarray(["Content-Type: text/plain", "content-transfer-encoding: binary", "Content-Length: 3", "X-Anything: goes", "Content-ID: <1>"]);
const fileType = fc.constantFrom("Content-Type: multipart/mixed; boundary=inner", "Content-Type: image/png", "Content-Type: text/plain; charset=klingon",
  "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable", "Content-Type: nonsense", "X-No: type");

const field = fc.record({ name: text("abcdef", 1, 20), value: text(`${LETTERS} -\r\n`, 0, 100) });

export const framing: fc.Arbitrary<Framing> = fc.record({
  chunked: fc.boolean(),
  chunkSizes: fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 4 }).map((sizes) => (Math.max(...sizes) < 50 ? [...sizes, 1_000] : sizes)),
  extension: fc.constantFrom("", "", ";a=b", ';a="b c"'),
  trailer: fc.constantFrom("", "", "X-Trailer: yes\r\n"),
});

const share = fc.double({ min: 0, max: 1, noNaN: true });
export const wireFault: fc.Arbitrary<WireFault> = fc.oneof(
  { weight: 200, arbitrary: fc.record({ wire: fc.constant("cut" as const), share }) },
  { weight: 1, arbitrary: fc.record({ wire: fc.constant("cut-and-wait" as const), share }) },
  { weight: 120, arbitrary: fc.record({ wire: fc.constantFrom("longer" as const, "shorter" as const), by: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 5_000 })) }) },
  { weight: 100, arbitrary: fc.record({ wire: fc.constantFrom("two-lengths" as const, "both" as const, "no-length" as const, "bad-chunk" as const) }) });

/** Something wrong with the form itself. "keeps": if it is accepted all the same, then with the file's own bytes. */
const formFault = fc.oneof(
  fc.constantFrom("no-boundary", "empty-boundary", "unclosed-quote", "other-boundary", "boundary-prefix", "longer-boundary", "endless-boundary", "no-type", "other-type", "two-types").map((head) => ({ kind: "head" as const, head })),
  fc.constantFrom<[string, ...string[]]>(["X: y"], ["Content-Disposition: form-data"], ["Content-Disposition: form-data; name"], ['Content-Disposition: form-data; name=""; filename="a"'],
    ['Content-Disposition: form-data; name="file"'], ['Content-Disposition: form-data; name="file"; filename=""'], ['Content-Disposition: form-data; name="file[]"; filename="a"'],
    ['Content-Disposition: form-data; name="other"; filename="a"'], ['Content-Disposition: attachment; name="file"; filename="a"'], ['Content-Disposition: form-data; name="file"; filename=".."'],
    ['Content-Disposition: form-data; name="file"; filename="a%00"'], ['Content-Disposition: form-data; name="file"; filename="a\0b"'], ['Content-Disposition: form-data; name="file', ' "; filename="a"'],
    ['Content-Disposition: form-data;', ' name="file";', '\tfilename="folded.txt"'], ['Content-Disposition: form-data; name="file"; filename="a"', 'Content-Disposition: form-data; name="other"; filename="b"'],
    ['Content-Disposition: form-data; name="file"; name="other"; filename="a"; filename="b"'], [`X-Huge: ${"h".repeat(17_000)}`, 'Content-Disposition: form-data; name="file"; filename="a"'],
    [`Content-Disposition: form-data; name="${"n".repeat(200)}"; filename="a"`], ['Content-Disposition: form-data; name="file"; filename*=utf-16\'\'%ff%fe'], ["Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''%zz%"],
    ["no colon"], [": no name"], ['Content-Disposition: form-data; name="__proto__"; filename="a"'], ['CONTENT-disposition:form-data;NAME=file;FILENAME=x']).map((lines) => ({ kind: "part" as const, lines })),
  fc.constantFrom("second-file", "no-file", "many-fields", "long-field", "nested-field", "no-last-boundary", "only-last-boundary", "empty-file", "text-file", "behind-end").map((shape) => ({ kind: "shape" as const, shape })),
  fc.record({ kind: fc.constant("bytes" as const), how: fc.constantFrom("end" as const, "drop" as const, "insert" as const, "repeat" as const), share, length: fc.integer({ min: 1, max: 60 }), byte: fc.nat({ max: 255 }) }),
  fc.constant({ kind: "lines" as const }));
type FormFault = typeof formFault extends fc.Arbitrary<infer T> ? T : never;

const specification = fc.record({
  boundary, framing, content, disposition,
  headers: partHeaders,
  type: fileType,
  before: fc.array(field, { maxLength: 3 }),
  behind: fc.array(field, { maxLength: 2 }),
  preamble: fc.constantFrom("", "", "", "\r\n", "This is a multi-part message.\r\n", "--\r\n", "-"),
  epilogue: fc.constantFrom("\r\n", "\r\n", "", "\r\n\r\nepilogue", "\r\n--more--\r\n"),
  expect: fc.constantFrom("", "", "", "Expect: 100-continue"),
  cuts: fc.array(share, { maxLength: 4 }),
  faults: fc.oneof(
    { weight: 45, arbitrary: fc.constant({ form: undefined, wire: { wire: "none" } as WireFault }) },
    { weight: 40, arbitrary: fc.record({ form: formFault, wire: fc.constant<WireFault>({ wire: "none" }) }) },
    { weight: 12, arbitrary: fc.record({ form: fc.constant(undefined), wire: wireFault }) },
    { weight: 3, arbitrary: fc.record({ form: formFault, wire: wireFault }) }),
});
type Specification = typeof specification extends fc.Arbitrary<infer T> ? T : never;

export const forms: fc.Arbitrary<FuzzRequest> = specification.map(build);

function build(of: Specification): FuzzRequest {
  const { name } = of.boundary;
  const { form: fault, wire } = of.faults;
  const bytes = fault?.kind === "shape" && fault.shape === "empty-file" ? Buffer.alloc(0) : of.content(name);
  const { parts, last } = partsOf(of, bytes, fault);
  let body: Buffer = Buffer.concat([
    Buffer.from(of.preamble), ...parts.flatMap(({ head, value }) => [Buffer.from(`--${name}\r\n${head.join("\r\n")}\r\n\r\n`), value, Buffer.from("\r\n")]),
    Buffer.from(last ? `--${name}--${of.epilogue}` : "")]);
  if (fault?.kind === "shape" && fault.shape === "behind-end") body = Buffer.concat([Buffer.from(`--${name}--\r\n--${name}\r\n\r\n\r\n`), body]);
  body = broken(body, fault);
  const lines = ["POST /api/upload HTTP/1.1", "Host: x", ...typeOf(of.boundary, fault), ...(of.expect ? [of.expect] : [])];
  const sent = onTheWire(lines, body, of.framing, wire);
  // The preamble ends in a line of its own, or it would be a part of the first boundary's; the delimiter must not be in what it delimits.
  const clean = !`\r\n${of.preamble}`.includes(`\r\n--${name}`) && (of.preamble === "" || of.preamble.endsWith("\r\n"))
    && ![...of.before, ...of.behind].some(({ value }) => `\r\n${value}\r\n`.includes(`\r\n--${name}`)) && !Buffer.concat([Buffer.from("\r\n"), bytes]).includes(`\r\n--${name}`);
  const known = clean && (fault === undefined || fault.kind === "head" || (fault.kind === "shape" && fault.shape !== "second-file" && fault.shape !== "behind-end") || fault.kind === "part" || (fault.kind === "bytes" && fault.how === "end"));
  const boundaryChanged = fault?.kind === "head" && /boundary/.test(fault.head) && fault.head !== "no-boundary";
  return {
    what: `form ${JSON.stringify({ boundary: of.boundary, fault, wire, framing: of.framing, disposition: of.disposition, preamble: of.preamble, epilogue: of.epilogue })}`,
    ...sent, cuts: of.cuts.map((at) => Math.floor(at * sent.bytes.length)),
    good: clean && fault === undefined && wire.wire === "none" && bytes.length <= LIMITS.mostBytes,
    sha256: known && !boundaryChanged && bytes.length > 0 ? sha256Of(bytes) : undefined,
  };
}

interface Part {
  head: string[];
  value: Buffer;
}

function partsOf({ before, behind, disposition, headers, type }: Specification, bytes: Buffer, fault: FormFault | undefined): { parts: Part[]; last: boolean } {
  const shape = fault?.kind === "shape" ? fault.shape : undefined;
  const ofField = ({ name, value }: { name: string; value: string }): Part => ({ head: [`Content-Disposition: form-data; name="${name}"`], value: Buffer.from(value) });
  const head = fault?.kind === "part" ? [...fault.lines] : [`Content-Disposition: form-data; name="file"; ${disposition}`, ...headers.filter((line) => !line.startsWith("Content-Type")), type];
  const file = { head: shape === "text-file" ? ['Content-Disposition: form-data; name="file"'] : head, value: bytes };
  const more: Part[] = shape === "second-file" ? [file]
    : shape === "many-fields" ? Array.from({ length: 20 }, (_, i) => ofField({ name: `f${i}`, value: "x" }))
      : shape === "long-field" ? [ofField({ name: "long", value: "v".repeat(3_000) })]
        : shape === "nested-field" ? [ofField({ name: "a[b][__proto__]", value: "x" })] : [];
  const parts = [...before.map(ofField), ...(shape === "no-file" ? [] : [file]), ...more, ...behind.map(ofField)];
  return { parts: shape === "only-last-boundary" ? [] : parts, last: shape !== "no-last-boundary" };
}

function typeOf({ name, quoted }: { name: string; quoted: boolean }, fault: FormFault | undefined): string[] {
  const type = (parameter: string) => [`Content-Type: multipart/form-data${parameter}`];
  switch (fault?.kind === "head" ? fault.head : undefined) {
    case "no-boundary": return type("");
    case "empty-boundary": return type("; boundary=");
    case "unclosed-quote": return type(`; boundary="${name}`);
    case "other-boundary": return type("; boundary=something-else");
    case "boundary-prefix": return type(`; boundary="${name.slice(0, Math.max(1, name.length >> 1))}"`);
    case "longer-boundary": return type(`; boundary="${name}x"`);
    case "endless-boundary": return type(`; boundary=${"e".repeat(9_000)}`);
    case "no-type": return [];
    case "other-type": return [`Content-Type: multipart/mixed; boundary="${name}"`];
    case "two-types": return [...type(`; boundary="${name}"`), "Content-Type: text/plain"];
    default: return type(quoted ? `; boundary="${name}"` : `; charset=utf-8; boundary=${name}`);
  }
}

function broken(body: Buffer, fault: FormFault | undefined): Buffer {
  if (fault?.kind === "lines") return Buffer.from(body.toString("latin1").replaceAll("\r\n", "\n"), "latin1");
  if (fault?.kind !== "bytes") return body;
  const at = Math.floor(fault.share * body.length);
  const [start, end] = [body.subarray(0, at), body.subarray(at)];
  switch (fault.how) {
    case "end": return start;
    case "drop": return Buffer.concat([start, end.subarray(fault.length)]);
    case "insert": return Buffer.concat([start, Buffer.alloc(fault.length, fault.byte), end]);
    case "repeat": return Buffer.concat([start, end.subarray(0, fault.length), end]);
  }
}
