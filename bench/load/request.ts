import { randomBytes } from "node:crypto";
import { prepareEvents } from "./events.ts";
import type { RequestShape } from "./job.ts";

const STAMP_BYTES = 32;
/** Above this a request is not held whole by each client: all send pieces of the one shared buffer. */
const WHOLE_UP_TO_BYTES = 262_144;
const PIECE_BYTES = 1_048_576;
/** Bytes no compressor and no byte-skipping parser gets for free, as in most files people send. */
const filler = randomBytes(PIECE_BYTES);
const BOUNDARY = `------------------------${randomBytes(8).toString("hex")}`; // curl's form

/**
 * A request that is built once and sent again and again. The first 32 bytes of its file are a stamp, different each
 * time, because a store that keeps the same bytes once would otherwise be measured doing nothing.
 */
export interface PreparedRequest {
  /** Everything up to and with the stamp; for small files the whole request. */
  first: Buffer;
  /** Of the shared filler, sent after `first`. */
  fillerBytes: number;
  last: Buffer;
  /** Puts a stamp that was not used before. Call it only when the former request is off the machine. */
  stamp(): void;
}

let stamps = 0;
const stampPrefix = randomBytes(8).toString("hex");

/** @param client  which of them it is for, counted from 0 */
export function prepareRequest(shape: RequestShape, host: string, client = 0): PreparedRequest {
  if (shape.body === "events") return prepareEvents(shape, host, client);
  if (shape.paths !== undefined) return takingTurns(shape.paths, shape, host, client);
  const { before, after } = envelope(shape);
  const hasBody = shape.body !== "none";
  const lengthHeader = hasBody ? `Content-Length: ${before.length + shape.sizeBytes + after.length}\r\n` : "";
  const headers = Object.entries(shape.headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(
    `${shape.method} ${shape.path} HTTP/1.1\r\nHost: ${host}\r\n${headers.join("")}${formHeader(shape)}${lengthHeader}\r\n`,
    "latin1",
  );
  if (!hasBody) return { first: head, fillerBytes: 0, last: Buffer.alloc(0), stamp: () => {} };

  const stampBytes = Math.min(STAMP_BYTES, shape.sizeBytes);
  const stampAt = head.length + before.length;
  const whole = stampAt + shape.sizeBytes + after.length <= WHOLE_UP_TO_BYTES;
  const rest = whole ? filler.subarray(0, shape.sizeBytes - stampBytes) : Buffer.alloc(0);
  const first = Buffer.concat([head, before, Buffer.alloc(stampBytes), rest, whole ? after : Buffer.alloc(0)]);
  return {
    first,
    fillerBytes: whole ? 0 : shape.sizeBytes - stampBytes,
    last: whole ? Buffer.alloc(0) : after,
    stamp() {
      const text = stampPrefix + (stamps++).toString(16).padStart(STAMP_BYTES - stampPrefix.length, "0");
      first.write(text.slice(STAMP_BYTES - stampBytes), stampAt, "latin1");
    },
  };
}

function takingTurns(paths: readonly string[], shape: RequestShape, host: string, client: number): PreparedRequest {
  const requests = paths.map((path) => prepareRequest({ ...shape, paths: undefined, path }, host).first);
  let next = (client * 7919) % requests.length; // a prime: the clients are not all at one place
  return {
    first: requests[next]!,
    fillerBytes: 0,
    last: Buffer.alloc(0),
    stamp() {
      this.first = requests[next++ % requests.length]!;
    },
  };
}

/** The next piece of the shared filler for a body that lacks so many bytes. */
export function takeFiller(missingBytes: number): Buffer {
  return missingBytes >= PIECE_BYTES ? filler : filler.subarray(0, missingBytes);
}

function envelope(shape: RequestShape): { before: Buffer; after: Buffer } {
  if (shape.body !== "multipart") return { before: Buffer.alloc(0), after: Buffer.alloc(0) };
  return {
    before: Buffer.from(
      `--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n` +
        "Content-Type: application/octet-stream\r\n\r\n",
    ),
    after: Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  };
}

function formHeader(shape: RequestShape): string {
  return shape.body === "multipart" ? `Content-Type: multipart/form-data; boundary=${BOUNDARY}\r\n` : "";
}
