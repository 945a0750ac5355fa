import type { Request } from "express";
import { Failure, type FailureCode } from "../core/errors.ts";

/**
 * A small body, whole. For what has to be parsed as a whole; files are streamed.
 * @throws Failure `tooLarge` before more than `mostBytes` of it are held; UNSUPPORTED_MEDIA_TYPE where it is compressed; MALFORMED_REQUEST where it broke off
 */
export function readBody(req: Request, mostBytes: number, tooLarge: FailureCode): Promise<Buffer> {
  if (Number(req.headers["content-length"] ?? 0) > mostBytes) throw new Failure(tooLarge);
  const coding = req.headers["content-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "identity") throw new Failure("UNSUPPORTED_MEDIA_TYPE", "Send the body as it is, without Content-Encoding.");
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    const onData = (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= mostBytes) return void chunks.push(chunk);
      stop();
      req.pause();
      reject(new Failure(tooLarge));
    };
    const onEnd = () => {
      stop();
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, sizeBytes));
    };
    const onClose = () => {
      stop();
      reject(new Failure("MALFORMED_REQUEST", "The body broke off."));
    };
    // Every request closes in the end: a failure made then, for nobody, was a twelfth of an event's time.
    const stop = () => req.off("data", onData).off("end", onEnd).off("close", onClose);
    req.on("data", onData).on("end", onEnd).on("close", onClose);
  });
}
