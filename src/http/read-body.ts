import type { Request } from "express";
import { Failure, type FailureCode } from "../core/errors.ts";
import { collectUpTo } from "./collect.ts";

/**
 * A small body, whole. For what has to be parsed as a whole; files are streamed.
 * @throws Failure `tooLarge` before more than a chunk beyond `mostBytes` is held; UNSUPPORTED_MEDIA_TYPE where it is compressed; MALFORMED_REQUEST where it broke off
 */
export async function readBody(req: Request, mostBytes: number, tooLarge: FailureCode, detail?: string): Promise<Buffer> {
  if (Number(req.headers["content-length"] ?? 0) > mostBytes) throw new Failure(tooLarge);
  const coding = req.headers["content-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "identity") throw new Failure("UNSUPPORTED_MEDIA_TYPE", "Send the body as it is, without Content-Encoding.");
  const { chunks, sizeBytes, ended } = await collectUpTo(req, mostBytes);
  if (!ended) throw new Failure(tooLarge, detail);
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, sizeBytes);
}
