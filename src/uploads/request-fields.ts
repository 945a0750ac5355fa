import { isUtf8 } from "node:buffer";
import type { Request } from "express";
import { Failure } from "../core/errors.ts";

const IDEMPOTENCY_KEY = /^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$/;
const MOST_UPLOADER_CHARACTERS = 128;

/** @throws Failure INVALID_IDEMPOTENCY_KEY */
export function readIdempotencyKey(req: Request): string | undefined {
  const key = req.headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key !== "string" || !IDEMPOTENCY_KEY.test(key)) throw new Failure("INVALID_IDEMPOTENCY_KEY");
  return key;
}

/** Who hands the file in, as the client says; null: it does not. @throws Failure INVALID_UPLOADER_ID */
export function readUploaderId(value: unknown): string | null {
  if (value === undefined || value === "") return null;
  if (typeof value !== "string" || /\p{Cc}/u.test(value) || [...value].length > MOST_UPLOADER_CHARACTERS || !value.isWellFormed()) {
    throw new Failure("INVALID_UPLOADER_ID");
  }
  return value;
}

/** Node reads headers as latin1; what curl and browsers send in them is UTF-8. @throws Failure INVALID_UPLOADER_ID */
export function uploaderHeaderOf(req: Request): unknown {
  const header = req.headers["x-uploader-id"];
  if (typeof header !== "string") return header;
  const bytes = Buffer.from(header, "latin1");
  if (!isUtf8(bytes)) throw new Failure("INVALID_UPLOADER_ID");
  return bytes.toString();
}
