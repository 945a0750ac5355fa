import { FILE_NAME, FILE_NAME_BYTES } from "./large.ts";

type Info = { sizeBytes: number; modifiedAt: Date };
export type SmallRecord = Info & { bytes: Uint8Array };
/** What a disk store knows of one object: its bytes, when small, or the name of its file. */
export type ObjectRecord = SmallRecord | (Info & { file: string });

// A record is: kind (1 byte: BYTES or FILE), modifiedAt (float64, ms since 1970), then the bytes, or size (float64) and file.
const BYTES = 1;
const FILE = 2;
const MODIFIED_AT = 1;
const BYTES_AT = 9;
const SIZE_AT = 9;
const FILE_AT = 17;

export function encode(record: ObjectRecord): Buffer {
  const small = "bytes" in record;
  const content = small ? record.bytes : Buffer.from(record.file);
  const start = small ? BYTES_AT : FILE_AT;
  const value = Buffer.allocUnsafe(start + content.length);
  value[0] = small ? BYTES : FILE;
  value.writeDoubleLE(record.modifiedAt.getTime(), MODIFIED_AT);
  if (!small) value.writeDoubleLE(record.sizeBytes, SIZE_AT);
  value.set(content, start);
  return value;
}

export function decode(value: Buffer): ObjectRecord {
  const file = fileIn(value);
  return { ...infoIn(value), ...(file === undefined ? { bytes: value.subarray(BYTES_AT) } : { file }) };
}

/** Whatever is in a damaged record, this answers: its object then has another size or other bytes than it should. */
export function infoIn(value: Buffer): Info {
  if (value.length < BYTES_AT) return { sizeBytes: 0, modifiedAt: new Date(0) };
  const sizeBytes = isFile(value) ? value.readDoubleLE(SIZE_AT) : value.length - BYTES_AT;
  return { sizeBytes, modifiedAt: new Date(value.readDoubleLE(MODIFIED_AT)) };
}

export function fileIn(value: Buffer): string | undefined {
  return isFile(value) ? value.toString("utf8", FILE_AT, value.length) : undefined;
}

/** A record whose kind alone is damaged is none of a file: read as one, it would name a file that there cannot be. */
function isFile(value: Buffer): boolean {
  return value[0] === FILE && value.length === FILE_AT + FILE_NAME_BYTES && FILE_NAME.test(value.toString("latin1", FILE_AT, value.length));
}
