import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import type { Request } from "express";
import { Failure } from "../../core/errors.ts";
import { isId } from "../../core/ids.ts";
import { cleanFileName } from "../file-name.ts";

export const TUS_VERSION = "1.0.0";
export const TUS_EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,expiration,checksum,concatenation";
export const CHECKSUM_ALGORITHMS = ["sha1", "sha256"];

export const UPLOADS_PATH = "/api/uploads";

const WHOLE_NUMBER = /^(0|[1-9]\d{0,15})$/;
const METADATA_KEY = /^[\x21-\x2b\x2d-\x7e]+$/; // ASCII without space and comma
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const DIGEST_BYTES: Record<string, number> = { sha1: 20, sha256: 32 };
const MOST_PARTS = 100;

export interface Checksum {
  algorithm: string;
  digest: Buffer;
}

/** A number of bytes. Undefined: there is no such header. @throws Failure MALFORMED_TUS_HEADER */
export function readBytes(req: Request, name: "Upload-Length" | "Upload-Offset"): number | undefined {
  const text = req.get(name);
  if (text === undefined) return undefined;
  const bytes = WHOLE_NUMBER.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(bytes)) throw malformed(`${name} is a whole number of bytes.`);
  return bytes;
}

/** The whole upload's length. Null: it is said to come later. @throws Failure MALFORMED_TUS_HEADER */
export function readLength(req: Request): number | null {
  const length = readBytes(req, "Upload-Length");
  const deferred = req.get("Upload-Defer-Length");
  if (deferred !== undefined && deferred !== "1") throw malformed("Upload-Defer-Length is 1, or not sent.");
  if ((length === undefined) === (deferred === undefined)) throw malformed("Send either Upload-Length or Upload-Defer-Length: 1.");
  return length ?? null;
}

/** @throws Failure MALFORMED_TUS_HEADER */
export function readChecksum(req: Request): Checksum | undefined {
  const text = req.get("Upload-Checksum");
  if (text === undefined) return undefined;
  const [algorithm = "", encoded = "", ...rest] = text.split(" ");
  const digest = BASE64.test(encoded) ? Buffer.from(encoded, "base64") : undefined;
  if (!CHECKSUM_ALGORITHMS.includes(algorithm)) throw malformed(`Upload-Checksum begins with one of: ${CHECKSUM_ALGORITHMS.join(", ")}.`);
  if (!digest || rest.length > 0 || digest.length !== DIGEST_BYTES[algorithm]) throw malformed(`Upload-Checksum is ${algorithm}, a space, and the digest in base64.`);
  return { algorithm, digest };
}

export function createChecksum({ algorithm, digest }: Checksum) {
  const hash = createHash(algorithm);
  return { update: (chunk: Uint8Array) => void hash.update(chunk), matches: () => hash.digest().equals(digest) };
}

/** What a final upload is made of, or that this is a part of one. @throws Failure MALFORMED_TUS_HEADER */
export function readConcat(req: Request): { kind: "partial" } | { kind: "final"; parts: string[] } | null {
  const text = req.get("Upload-Concat");
  if (text === undefined) return null;
  if (text === "partial") return { kind: "partial" };
  if (!text.startsWith("final;")) throw malformed("Upload-Concat is partial, or final; with the addresses of the parts.");
  const parts = text.slice("final;".length).trim().split(/ +/).map(idOfAddress);
  if (parts.length > MOST_PARTS) throw malformed(`A final upload has at most ${MOST_PARTS} parts.`);
  if (new Set(parts).size < parts.length) throw malformed("Upload-Concat names a part twice.");
  return { kind: "final", parts };
}

/** Behind a proxy the address may have a host and a longer path than ours. */
function idOfAddress(address: string): string {
  const id = address.split(/[?#]/, 1)[0]!.split("/").at(-1)!;
  if (!isId(id)) throw malformed("Upload-Concat names something that is no upload.");
  return id;
}

export interface Metadata {
  fileName: string | undefined;
  declaredType: string | undefined;
  uploaderId: string | undefined;
}

/**
 * What Upload-Metadata says that is of use here: filename (or name), filetype (or type), uploader_id.
 * @throws Failure MALFORMED_TUS_HEADER, INVALID_FILE_NAME
 */
export function readMetadata(text: string | null): Metadata {
  const values = new Map<string, string>();
  for (const pair of text ? text.split(",") : []) {
    const [key = "", encoded = "", ...rest] = pair.trim().split(" ");
    if (!METADATA_KEY.test(key) || rest.length > 0 || !BASE64.test(encoded)) throw malformed("Upload-Metadata is pairs of a key, a space and base64, with commas between them.");
    if (values.has(key)) throw malformed(`Upload-Metadata has ${key} twice.`);
    const bytes = Buffer.from(encoded, "base64");
    if (!isUtf8(bytes)) throw malformed(`Upload-Metadata: the value of ${key} is not UTF-8.`);
    values.set(key, bytes.toString());
  }
  const fileName = values.get("filename") ?? values.get("name");
  return {
    fileName: fileName === undefined ? undefined : cleanFileName(fileName),
    declaredType: values.get("filetype") ?? values.get("type"),
    uploaderId: values.get("uploader_id"),
  };
}

function malformed(sentence: string): Failure {
  return new Failure("MALFORMED_TUS_HEADER", sentence);
}
