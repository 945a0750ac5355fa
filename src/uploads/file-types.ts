import { lookup } from "mime-types";
import { Failure } from "../core/errors.ts";

const MEDIA_TYPE = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/;
const UNKNOWN = "application/octet-stream";
/** Types whose files begin with no magic bytes; they are told by their being text. */
const TEXTUAL = /^text\/|^application\/(json|ld\+json|geo\+json|x-ndjson|xml|javascript|yaml|toml|sql|csv)$|\+(json|xml)$/;

/** What a file is recorded and served as: what its first bytes say, else the client, else the name's ending, else "unknown". */
export function contentTypeOf(sniffed: string | undefined, declared: string | undefined, fileName: string): string {
  return sniffed ?? bare(declared) ?? (lookup(fileName) || UNKNOWN);
}

/**
 * Holds a file against ALLOWED_TYPES ("image/png", "image/*"). Magic bytes decide where there are any; a file
 * without them passes only if it is text, says so, and that is on the list.
 * @throws Failure FILE_TYPE_NOT_ALLOWED
 */
export function checkFileType(allowed: readonly string[], sniffed: string | undefined, declared: string | undefined, head: Uint8Array): void {
  if (allowed.length === 0) return;
  if (sniffed !== undefined && listed(allowed, sniffed)) return;
  const claim = bare(declared);
  if (sniffed === undefined || TEXTUAL.test(sniffed)) {
    if (claim && TEXTUAL.test(claim) && listed(allowed, claim) && looksLikeText(head)) return;
  }
  throw new Failure("FILE_TYPE_NOT_ALLOWED", `Accepted here: ${allowed.join(", ")}. This file is ${sniffed ?? "of a type that its bytes do not tell"}.`);
}

/** "text/html; charset=utf-8" -> "text/html"; undefined for what is not a media type, and for the one that says nothing. */
function bare(declared: string | undefined): string | undefined {
  const type = declared?.split(";", 1)[0]!.trim().toLowerCase();
  return type !== undefined && type !== UNKNOWN && MEDIA_TYPE.test(type) ? type : undefined;
}

function listed(allowed: readonly string[], type: string): boolean {
  return allowed.some((pattern) => pattern === type || (pattern.endsWith("/*") && type.startsWith(pattern.slice(0, -1))));
}

function looksLikeText(head: Uint8Array): boolean {
  return !head.some((byte) => byte < 9 || (byte > 13 && byte < 32 && byte !== 27));
}
