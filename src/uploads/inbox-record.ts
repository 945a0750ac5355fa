import { Damaged } from "../objects/object-store.ts";
import { Manifest } from "./messages.ts";

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

/** @throws Damaged when the record is not one of ours */
export function decodeRecord(record: Uint8Array): InboxRecord {
  const buffer = Buffer.from(record.buffer, record.byteOffset, record.byteLength);
  try {
    const end = LENGTH_BYTES + buffer.readUInt32BE();
    const manifest = Manifest.parse(JSON.parse(buffer.toString("utf8", LENGTH_BYTES, end)));
    return { manifest, bytes: manifest.blob_key === null ? buffer.subarray(end) : undefined };
  } catch (error) {
    throw new Damaged("hash", "the inbox's record of this upload cannot be read", { cause: error });
  }
}
