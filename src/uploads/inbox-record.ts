import { crc32 } from "node:zlib";
import { readManifest, type Manifest } from "./messages.ts";

/** What the inbox keeps under an upload's id. */
export interface InboxRecord {
  manifest: Manifest;
  /** A small upload's bytes; undefined where the manifest names a blob. */
  bytes: Uint8Array | undefined;
}

const SUM_AT = 4;
const MANIFEST_AT = 8;

/**
 * Layout: length of the manifest (4 bytes, big-endian), its CRC-32 (4 bytes), the manifest (JSON), the bytes of a small upload.
 * A manifest with one wrong bit would be a good one of another upload or another owner. The bytes have their SHA-256 in it.
 */
export function encodeRecord(manifest: Manifest, bytes: Uint8Array | undefined): Buffer {
  const text = JSON.stringify(manifest);
  const textBytes = Buffer.byteLength(text);
  const record = Buffer.allocUnsafe(MANIFEST_AT + textBytes + (bytes?.length ?? 0));
  record.writeUInt32BE(textBytes);
  record.write(text, MANIFEST_AT);
  record.writeUInt32BE(crc32(record.subarray(MANIFEST_AT, MANIFEST_AT + textBytes)), SUM_AT);
  if (bytes) record.set(bytes, MANIFEST_AT + textBytes);
  return record;
}

/** The manifest alone, from a record's first bytes; undefined: it is longer than those, or damaged. */
export function readManifestOf(head: Uint8Array): Manifest | undefined {
  return read(head)?.manifest;
}

/** Undefined: the manifest is damaged. One record that cannot be read must not stop those who read many. */
export function readRecord(record: Uint8Array): InboxRecord | undefined {
  const { manifest, rest } = read(record) ?? {};
  return manifest && { manifest, bytes: manifest.blob_key === null ? rest : undefined };
}

function read(record: Uint8Array) {
  const buffer = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  if (buffer.length < MANIFEST_AT) return undefined;
  const end = MANIFEST_AT + buffer.readUInt32BE();
  const text = buffer.subarray(MANIFEST_AT, end);
  if (end > buffer.length || crc32(text) !== buffer.readUInt32BE(SUM_AT)) return undefined;
  return { manifest: readManifest(text.toString()), rest: buffer.subarray(end) };
}
