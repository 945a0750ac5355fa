import { createHash, randomBytes } from "node:crypto";
import { fetch } from "./fetch.ts";

export const TUS = { "Tus-Resumable": "1.0.0" };
export const BODY = { ...TUS, "Content-Type": "application/offset+octet-stream" };

/** Upload-Metadata of these pairs. */
export function metadata(pairs: Record<string, string>): string {
  return Object.entries(pairs).map(([key, value]) => `${key} ${Buffer.from(value).toString("base64")}`).join(",");
}

export function checksum(algorithm: string, bytes: Uint8Array): string {
  return `${algorithm} ${createHash(algorithm).update(bytes).digest("base64")}`;
}

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Requests of the tus protocol, as a client would make them by hand. */
export function tusAt(url: string) {
  const at = (location: string) => new URL(location, url).href;
  return {
    bytes: (sizeBytes: number) => randomBytes(sizeBytes),
    /** @returns the answer; `location` is its Location */
    async create(headers: Record<string, string> = {}, body?: Uint8Array) {
      const response = await fetch(`${url}/api/uploads`, { method: "POST", headers: { ...(body ? BODY : TUS), ...headers }, ...(body && { body: body as unknown as string }) });
      return Object.assign(response, { location: response.headers.get("location") ?? "" });
    },
    patch: (location: string, offset: number, body: Uint8Array, headers: Record<string, string> = {}) =>
      fetch(at(location), { method: "PATCH", headers: { ...BODY, "Upload-Offset": String(offset), ...headers }, body: body as unknown as string }),
    head: (location: string) => fetch(at(location), { method: "HEAD", headers: TUS }),
    remove: (location: string) => fetch(at(location), { method: "DELETE", headers: TUS }),
    async offset(location: string): Promise<number> {
      return Number((await fetch(at(location), { method: "HEAD", headers: TUS })).headers.get("upload-offset"));
    },
    idOf: (location: string) => location.split("/").at(-1)!,
  };
}
