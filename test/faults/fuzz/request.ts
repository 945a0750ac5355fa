import { createHash } from "node:crypto";

/** A request as it goes over the wire, and what its maker knows of it. */
export interface FuzzRequest {
  /** For whoever reads a failure. */
  what: string;
  bytes: Buffer;
  /** Where it is cut into segments. */
  cuts: number[];
  /** By the rules of HTTP it has its end: the server has to answer without the connection being closed. */
  whole: boolean;
  /** It is not whole, and the client waits: 408. */
  patient: boolean;
  /** Nothing is wrong with it: 202. */
  good: boolean;
  /** Of the file's bytes, where they are known: whatever is accepted has exactly these. */
  sha256: string | undefined;
  /** What follows the request on the connection is another one, and may have an answer of its own. */
  more: boolean;
}

/** Settings of the site that is asked: an upload is small, large, or too large. */
export const LIMITS = { smallBytes: 1_024, mostBytes: 35_000 };

export const sha256Of = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** How a body is framed. */
export interface Framing {
  chunked: boolean;
  /** Bytes in each chunk, in turn. */
  chunkSizes: number[];
  extension: string;
  trailer: string;
}

export function framed(body: Buffer, { chunked, chunkSizes, extension, trailer }: Framing): { header: string; body: Buffer } {
  if (!chunked) return { header: `Content-Length: ${body.length}`, body };
  const pieces: Buffer[] = [];
  for (let at = 0, turn = 0; at < body.length; turn++) {
    const piece = body.subarray(at, at + (chunkSizes[turn % chunkSizes.length] ?? 1_000));
    pieces.push(Buffer.from(`${piece.length.toString(16)}${extension}\r\n`), piece, Buffer.from("\r\n"));
    at += piece.length;
  }
  return { header: "Transfer-Encoding: chunked", body: Buffer.concat([...pieces, Buffer.from(`0\r\n${trailer}\r\n`)]) };
}

/** What is wrong with a request's framing. */
export type WireFault =
  | { wire: "none" }
  | { wire: "cut" | "cut-and-wait"; share: number } // the client goes away, or stands still, after a share of it
  | { wire: "longer" | "shorter"; by: number } // Content-Length against what comes
  | { wire: "two-lengths" | "both" | "no-length" | "bad-chunk" };

/** Puts the head before the body, with what is to be wrong about their framing. */
export function onTheWire(lines: string[], body: Buffer, framing: Framing, fault: WireFault): { bytes: Buffer; whole: boolean; more: boolean; patient: boolean } {
  let { header, body: rest } = framed(body, framing);
  let [whole, more] = [true, false];
  switch (fault.wire) {
    case "longer":
      [header, rest, whole] = [`Content-Length: ${body.length + fault.by}`, body, false];
      break;
    case "shorter":
      [header, rest, more] = [`Content-Length: ${Math.max(0, body.length - fault.by)}`, body, true];
      break;
    case "two-lengths":
      [header, rest, more] = [`Content-Length: ${body.length}\r\nContent-Length: ${body.length + 1}`, body, true];
      break;
    case "both":
      [header, more] = [`${header}\r\n${framing.chunked ? "Content-Length: 4" : "Transfer-Encoding: chunked"}`, true];
      break;
    case "no-length":
      [header, rest, more] = ["X-Length: none", body, true];
      break;
    case "bad-chunk":
      [header, rest, more] = ["Transfer-Encoding: chunked", Buffer.concat([Buffer.from("zz\r\n"), body]), true];
      break;
  }
  const bytes = Buffer.concat([Buffer.from(`${[...lines, header].join("\r\n")}\r\n\r\n`, "latin1"), rest]);
  if (fault.wire !== "cut" && fault.wire !== "cut-and-wait") return { bytes, whole, more, patient: false };
  const length = Math.max(1, Math.min(bytes.length - 1, Math.floor(bytes.length * fault.share)));
  return { bytes: bytes.subarray(0, length), whole: false, more: false, patient: fault.wire === "cut-and-wait" };
}
