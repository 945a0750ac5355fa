import { createHmac, randomBytes, randomFillSync } from "node:crypto";
import { stringify, v7 } from "uuid";

const ID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

let lastMs = 0;
let sequence = 0;

/** A new UUIDv7: ordered by the time it was made, within this process also inside a millisecond. */
export function newId(): string {
  const random = takeRandom();
  const now = Date.now();
  if (now > lastMs) {
    lastMs = now;
    sequence = random.readUInt32BE() >>> 1; // half of its range is left to count up in
  } else {
    sequence++;
  }
  return v7({ random, msecs: lastMs, seq: sequence });
}

// Random bytes are taken from the kernel 4 KiB at a time: asking for each id's sixteen costs more than all the rest of it.
const pool = Buffer.alloc(4_096);
let used = pool.length;

function takeRandom(): Buffer {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool.subarray(used, (used += 16));
}

/**
 * The one id that belongs to these parts, the same in every process that knows the secret: a UUIDv8 (RFC 9562),
 * the first 122 bits of an HMAC-SHA-256. Parts are length-prefixed, so no two lists of parts collide.
 */
export function derivedId(secret: string, ...parts: string[]): string {
  const hmac = createHmac("sha256", secret);
  for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:${part}`);
  const bytes = hmac.digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x80;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return stringify(bytes);
}

/** True for ids that this program could have made: lower-case UUIDs of version 7 or 8. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text);
}

/** When an id of version 7 was made, milliseconds since 1970, by its maker's clock; undefined for a derived one. */
export function timeOf(id: string): number | undefined {
  return isDerived(id) ? undefined : Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** True for what derivedId made. */
export function isDerived(id: string): boolean {
  return id[14] === "8";
}

/** Unguessable text for names that must not collide; 16 hexadecimal digits. */
export function nonce(): string {
  return randomBytes(8).toString("hex");
}
