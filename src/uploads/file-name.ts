import { Failure } from "../core/errors.ts";

const MOST_BYTES = 255; // of UTF-8: what common file systems take
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|%(?:[01][0-9a-f]|7f)/gi;
/** Marks that make a name read differently from what it is ("exe.gpj" shown as "jpg.exe"), and the byte order mark. */
const DIRECTION = /[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/**
 * The name under which an upload is known: the last part of what the client sent, without control characters
 * (also percent-encoded ones) and direction overrides, at most 255 bytes, cut between characters and before its ending.
 * It is only ever shown; no path or key is made of it.
 * @throws Failure INVALID_FILE_NAME for an empty name, "." and "..", and NUL anywhere
 */
export function cleanFileName(raw: string): string {
  if (/\u0000|%00/.test(raw)) throw new Failure("INVALID_FILE_NAME", "A file name cannot contain NUL.");
  const base = raw.toWellFormed().split(/[/\\]/).at(-1)!;
  const name = base.replace(CONTROL, "").replace(DIRECTION, "").trim();
  if (name === "" || name === "." || name === "..") throw new Failure("INVALID_FILE_NAME");
  return cut(name);
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
  return stem + ending;
}
