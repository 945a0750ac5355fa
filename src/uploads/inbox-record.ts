import { readManifest, type Manifest } from "./messages.ts";

/** What the inbox keeps under an upload's id. */
export interface InboxRecord {
  manifest: Manifest;
  /** A small upload's bytes; undefined where the manifest names a blob. */
  bytes: Uint8Array | undefined;
}

const LENGTH_BYTES = 4;

/** Layout: length of the manifest (4 bytes, big-endian), the manifest (JSON), the bytes of a small upload. */
export function encodeRecord(manifest: Manifest, bytes: Uint8Array | undefined): Buffer {
  const text = JSON.stringify(manifest);
  const textBytes = Buffer.byteLength(text);
  const record = Buffer.allocUnsafe(LENGTH_BYTES + textBytes + (bytes?.length ?? 0));
  record.writeUInt32BE(textBytes);
  record.write(text, LENGTH_BYTES);
  if (bytes) record.set(bytes, LENGTH_BYTES + textBytes);
  return record;
}

/** The manifest alone, from a record's first bytes; undefined: it is longer than those, or damaged. */
export function readManifestOf(head: Uint8Array): Manifest | undefined {
  const buffer = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const end = LENGTH_BYTES + (buffer.length < LENGTH_BYTES ? 0 : buffer.readUInt32BE());
  return end > buffer.length ? undefined : readManifest(buffer.toString("utf8", LENGTH_BYTES, end));
}

/** Undefined: the manifest is damaged. One record that cannot be read must not stop those who read many. */
export function readRecord(record: Uint8Array): InboxRecord | undefined {
  const buffer = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  const end = LENGTH_BYTES + (buffer.length < LENGTH_BYTES ? 0 : buffer.readUInt32BE());
  const manifest = readManifest(buffer.toString("utf8", LENGTH_BYTES, end));
  return manifest && { manifest, bytes: manifest.blob_key === null ? buffer.subarray(end) : undefined };
}
