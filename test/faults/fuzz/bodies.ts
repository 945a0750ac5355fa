import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { framing, wireFault } from "./forms.ts";
import { LIMITS, onTheWire, sha256Of, type FuzzRequest, type WireFault } from "./request.ts";

/** Uploads whose body is the file: odd names in the address, odd headers, odd framing. */

const goodName = fc.oneof(
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 60 }).map((name) => `a${encodeURIComponent(name.toWellFormed().replaceAll("\0", "0").replaceAll("%", "_"))}.txt`),
  fc.constantFrom("a.txt", "a'b;c=d,e@f:g&h+i.txt", "%C3%9Cbung.txt", "100%25.txt", "..%2F..%2Fetc%2Fpasswd", "a%0D%0Ab.txt", "__proto__", "a.txt?x=y", "a.txt/", `${"%C3%BC".repeat(200)}.txt`));
const oddName = fc.oneof(
  fc.constantFrom("", ".", "..", "%2e%2e", "%00", "a%00b", "a%2500", "%", "%zz", "a%", "%ff", "%ed%a0%80", "a b", "a%20b/c", "a/b/c", "%0a", "a?uploader_id=%00", "a?uploader_id=a&uploader_id=b", `a?uploader_id=${"u".repeat(129)}`,
    "a\x7f", "\xff", "a#b", "%c0%ae%c0%ae", "a".repeat(9_000), "x".repeat(17_000)),
  fc.string({ unit: fc.constantFrom(..."%0129afz./\\?&=;:~ "), maxLength: 20 }));
const header = fc.constantFrom("X-Uploader-Id: me", "Idempotency-Key: some-key-", "Content-Type: image/png", "Content-Type: ;;;", "Accept: text/html", "Connection: close", "Range: bytes=0-1", "X-Forwarded-For: 1.2.3.4", "Expect: 100-continue", "Cookie: a=b");
const oddHeader = fc.constantFrom("X-Uploader-Id: \xff", "Idempotency-Key: ", "Idempotency-Key: \xfc", `Idempotency-Key: ${"k".repeat(256)}`, "Expect: something", "Upgrade: websocket\r\nConnection: Upgrade", "no colon", " folded: x", "X: \x07", "X : y", "Transfer-Encoding: identity", "Host: y", "Content-Encoding: gzip", "Te: trailers");

export const bodies: fc.Arbitrary<FuzzRequest> = fc.record({
  name: fc.oneof({ weight: 6, arbitrary: goodName.map((text) => ({ text, good: true })) }, { weight: 1, arbitrary: oddName.map((text) => ({ text, good: false })) }),
  headers: fc.array(header, { maxLength: 3 }),
  odd: fc.oneof({ weight: 5, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: oddHeader }),
  bytes: fc.oneof(
    { weight: 6, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 5, arbitrary: fc.integer({ min: 1_000, max: 40_000 }).map((size) => Buffer.alloc(size, "body ")) },
    { weight: 1, arbitrary: fc.constant(Buffer.alloc(0)) }),
  framing,
  wire: fc.oneof({ weight: 5, arbitrary: fc.constant<WireFault>({ wire: "none" }) }, { weight: 1, arbitrary: wireFault }),
  cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }),
}).map(({ name, headers, odd, bytes, framing: way, wire, cuts }) => {
  const nonce = randomUUID(); // not the seed's: as a failure is made shorter, a key that came again would be another failure
  const once = [...new Map(headers.map((line) => [line.split(":")[0], line.startsWith("Idempotency") ? `${line}${nonce}` : line])).values()];
  const lines = [`PUT /api/upload/${name.text} HTTP/1.1`, "Host: x", ...once, ...(odd === null ? [] : [odd])];
  const sent = onTheWire(lines, bytes, way, wire);
  const good = name.good && odd === null && wire.wire === "none" && bytes.length > 0 && bytes.length <= LIMITS.mostBytes;
  // A body cut by its own Content-Length is another file, and nothing wrong with it.
  const known = bytes.length > 0 && wire.wire !== "shorter";
  return {
    what: `body ${JSON.stringify({ lines: lines.map((line) => line.slice(0, 300)), wire, way, size: bytes.length })}`,
    ...sent, more: sent.more || odd !== null || !name.good, cuts: cuts.map((at) => Math.floor(at * sent.bytes.length)), good, sha256: known ? sha256Of(bytes) : undefined,
  };
});
