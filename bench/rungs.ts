import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Backends } from "./backends.ts";
import { postShape, putShape, type Hub } from "./hub.ts";
import type { Expectation, RequestShape } from "./load/job.ts";
import { startProcess, type Started } from "./processes.ts";
import type { Sitter } from "./sitting.ts";

/** One of the upload servers that are compared. */
export interface Rung extends Sitter {
  name: RungName;
  label: string;
  /** Larger files are not sent to it. */
  largestBytes?: number;
  request(sizeBytes: number): RequestShape;
  expect(sizeBytes: number): Expectation;
}

export const OURS = ["ours-post", "ours-put"] as const;
export const COMPETITORS = ["multer", "tus", "hash-file", "hash-record"] as const;
export type RungName = (typeof OURS)[number] | (typeof COMPETITORS)[number] | "discard";

const MIB = 1_048_576;

export function createRungs({ hub, backends, logs }: { hub: Hub; backends: Backends; logs: string }): Rung[] {
  const countQueued = (): Promise<number> => backends.redis.xlen(backends.stream);
  const startOurs = async (folder: string, load: string): Promise<Started> => {
    await backends.emptyRedis();
    return hub.startWeb(folder, load);
  };
  const startOther = (script: string) => (folder: string) =>
    startProcess({
      name: script,
      script: fileURLToPath(new URL(`servers/${script}.js`, import.meta.url)),
      env: { FOLDER: folder },
      logs,
      readyPath: "/",
    });
  const inFiles = (eachUpload: number) => async (folder: string) => (await readdir(folder)).length / eachUpload;
  const unknown = async (): Promise<undefined> => undefined;
  const sized = (status: number) => (sizeBytes: number): Expectation => ({ status, text: `"size":${sizeBytes}` });
  const rawTo = (path: string) => (sizeBytes: number): RequestShape => ({ ...putShape(sizeBytes), path });

  return [
    { name: "ours-post", label: "ConnectStorm POST (multipart)", request: postShape, expect: sized(202), start: startOurs, countKept: countQueued, usesRedis: true },
    { name: "ours-put", label: "ConnectStorm PUT", request: putShape, expect: sized(202), start: startOurs, countKept: countQueued, usesRedis: true },
    {
      name: "multer",
      label: "Express + multer disk storage",
      request: (sizeBytes) => ({ ...postShape(sizeBytes), path: "/upload" }),
      expect: sized(200),
      start: startOther("express-multer"),
      countKept: inFiles(1),
    },
    {
      name: "tus",
      label: "@tus/server + file store",
      request: (sizeBytes) => ({
        method: "POST",
        path: "/files",
        headers: {
          "Tus-Resumable": "1.0.0",
          "Upload-Length": String(sizeBytes),
          "Upload-Metadata": "filename YmVuY2guYmlu", // bench.bin
          "Content-Type": "application/offset+octet-stream",
        },
        body: "raw",
        sizeBytes,
      }),
      expect: (sizeBytes) => ({ status: 201, text: `ffset: ${sizeBytes}\r\n` }), // Upload-Offset, whatever its capitals
      start: startOther("tus"),
      countKept: inFiles(2), // the bytes and a .json
    },
    { name: "hash-file", label: "raw http: sha256, file, fsync", request: rawTo("/"), expect: sized(202), start: startOther("hash-file"), countKept: inFiles(1) },
    {
      name: "hash-record",
      label: "raw http: sha256, LMDB record",
      largestBytes: MIB, // it holds the body whole
      request: rawTo("/"),
      expect: sized(202),
      start: startOther("hash-record"),
      countKept: unknown,
    },
    { name: "discard", label: "raw http: thrown away", request: rawTo("/"), expect: sized(200), start: startOther("discard"), countKept: unknown },
  ];
}
