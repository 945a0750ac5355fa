import { crc32 } from "node:zlib";
import { z } from "zod";

/** A resumable upload: what was said of it when it was created, and where it stands in its life. What came of it, its pieces tell. */
export const PartialUpload = z.object({
  upload_id: z.uuid(),
  owner_id: z.uuid(),
  /** Tells apart what is created under the same id after the first was ended; part of the pieces' keys. */
  nonce: z.string().regex(/^[0-9a-f]{16}$/),
  /** What was said at the creation; null: that it comes later. */
  announced_bytes: z.number().int().positive().nullable(),
  /** What is known by now. */
  size_bytes: z.number().int().positive().nullable(),
  /** As the client sent it; HEAD gives it back. */
  metadata: z.string().nullable(),
  /** A part of a final upload becomes no file by itself; a final upload names its parts. */
  concat: z.union([z.object({ kind: z.literal("partial") }), z.object({ kind: z.literal("final"), parts: z.array(z.uuid()).min(1) })]).nullable(),
  created_at: z.iso.datetime(),
  /**
   * `open`: bytes come. `closing`: all are here, and it is being made a file: from here on a blob of it may be a manifest's.
   * `finished`: it is one; kept for those who ask how far it is. `ended`: terminated, expired or refused.
   */
  state: z.enum(["open", "closing", "finished", "ended"]),
  /** Who is closing it: whoever tries again after a failure puts itself in the place of the last one. */
  claim: z.string().nullable(),
});

export type PartialUpload = z.infer<typeof PartialUpload>;

/** Bytes of an upload that came in one go, durable and never changed. The record is what makes them count. */
export const PieceRecord = z.object({ blob_key: z.string(), size_bytes: z.number().int().positive() });
export type PieceRecord = z.infer<typeof PieceRecord>;

const SUM_CHARACTERS = 8;

/** CRC-32 in hexadecimal, then JSON: with one wrong bit it would be another owner's. Fields in one order, as records are compared. */
export function encodeChecked<T>(schema: z.ZodType<T>, value: T): Buffer {
  const text = JSON.stringify(schema.parse(value));
  return Buffer.from(crc32(text).toString(16).padStart(SUM_CHARACTERS, "0") + text);
}

/** Undefined: it is damaged. */
export function decodeChecked<T>(schema: z.ZodType<T>, record: Uint8Array): T | undefined {
  const text = Buffer.from(record).toString();
  const json = text.slice(SUM_CHARACTERS);
  if (Number.parseInt(text.slice(0, SUM_CHARACTERS), 16) !== crc32(json)) return undefined;
  return schema.safeParse(JSON.parse(json)).data;
}
