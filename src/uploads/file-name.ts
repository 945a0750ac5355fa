import { Failure } from "../core/errors.ts";

const MOST_BYTES = 255; // of UTF-8: what common file systems take
/**
 * Control characters, line separators, marks that make a name read differently from what it is ("exe.gpj" shown as
 * "jpg.exe"), and the byte order mark.
 */
const UNSEEN = /[\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu;
const ENCODED_CONTROL = /^%(?:[01][0-9a-f]|7f)$/i;

/**
 * The name under which an upload is known: the last part of what the client sent, without control characters
 * (also percent-encoded ones) and direction overrides, at most 255 bytes, cut between characters and before its ending.
 * It is only ever shown; no path or key is made of it.
 * @throws Failure INVALID_FILE_NAME for an empty name, "." and "..", and NUL anywhere
 */
export function cleanFileName(raw: string): string {
  if (raw.includes("\0") || raw.includes("%00")) throw new Failure("INVALID_FILE_NAME", "A file name cannot contain NUL.");
  const base = raw.toWellFormed().split(/[/\\]/).at(-1)!;
  const name = withoutEncodedControls(base.replace(UNSEEN, "")).trim();
  if (name === "" || name === "." || name === "..") throw new Failure("INVALID_FILE_NAME");
  return cut(name);
}

/** In one pass that looks back, so that taking one out does not leave another ("%%0101"). */
function withoutEncodedControls(name: string): string {
  if (!name.includes("%")) return name;
  let clean = "";
  for (const character of name) {
    clean += character;
    if (ENCODED_CONTROL.test(clean.slice(-3))) clean = clean.slice(0, -3);
  }
  return clean;
}

function cut(name: string): string {
  if (Buffer.byteLength(name) <= MOST_BYTES) return name;
  const ending = /\.[^.]{1,16}$/u.exec(name)?.[0] ?? "";
  let stem = "";
  let left = MOST_BYTES - Buffer.byteLength(ending);
  for (const character of name.slice(0, name.length - ending.length)) {
    left -= Buffer.byteLength(character);
    if (left < 0) break;
    stem += character;
  }
  return (stem + ending).trimEnd();
}
