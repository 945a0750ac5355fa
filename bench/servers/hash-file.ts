/**
 * The limit with one file each: raw node:http, sha256, the body in a file of its own, fdatasync, answer. No name, no
 * manifest, no queue, no check of anything. Written the fastest way that was found: chunks gathered to 256 KiB, one
 * write in flight, the request paused above 1 MiB; a small file is opened, written and synced in a row.
 */
import { createHash, hash as hashOnce } from "node:crypto";
import { closeSync, open, write, writev, fdatasync, close } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { folder, listen } from "./listen.ts";

const GATHER_BYTES = 262_144;
const PAUSE_ABOVE_BYTES = 1_048_576;
const into = folder();
let files = 0;

listen((req, res) => {
  if (Number(req.headers["content-length"]) <= GATHER_BYTES) takeSmall(req, res);
  else takeLarge(req, res);
});

function takeSmall(req: IncomingMessage, res: ServerResponse): void {
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => {
    const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
    const sha256 = hashOnce("sha256", bytes);
    open(nextPath(), "wx", (openError, file) => {
      if (openError) return refuse(res, openError);
      write(file, bytes, 0, bytes.length, 0, (writeError) => {
        if (writeError) return refuse(res, writeError, file);
        finish(res, file, bytes.length, sha256);
      });
    });
  });
}

function takeLarge(req: IncomingMessage, res: ServerResponse): void {
  const hash = createHash("sha256");
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let sizeBytes = 0;
  let ended = false;
  let writing = true; // until the file is open
  let file = -1;

  req.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    gathered.push(chunk);
    gatheredBytes += chunk.length;
    sizeBytes += chunk.length;
    if (gatheredBytes >= GATHER_BYTES) writeGathered();
    if (gatheredBytes > PAUSE_ABOVE_BYTES) req.pause();
  });
  req.on("end", () => {
    ended = true;
    writeGathered();
  });
  req.on("close", () => {
    if (!ended && file >= 0) closeSync(file);
  });
  open(nextPath(), "wx", (error, opened) => {
    if (error) return refuse(res, error);
    file = opened;
    writing = false;
    writeGathered();
  });

  function writeGathered(): void {
    if (writing) return;
    if (gatheredBytes === 0) {
      if (ended) finish(res, file, sizeBytes, hash.digest("hex"));
      return;
    }
    if (gatheredBytes < GATHER_BYTES && !ended) return;
    writing = true;
    const batch = gathered;
    gathered = [];
    gatheredBytes = 0;
    writev(file, batch, (error) => {
      if (error) return refuse(res, error, file);
      writing = false;
      if (req.isPaused()) req.resume();
      writeGathered();
    });
  }
}

function finish(res: ServerResponse, file: number, sizeBytes: number, sha256: string): void {
  fdatasync(file, (syncError) => {
    if (syncError) return refuse(res, syncError, file);
    close(file, (closeError) => {
      if (closeError) return refuse(res, closeError);
      const body = `{"size":${sizeBytes},"sha256":"${sha256}"}`;
      res.writeHead(202, { "Content-Type": "application/json", "Content-Length": body.length });
      res.end(body);
    });
  });
}

function refuse(res: ServerResponse, error: Error, file?: number): void {
  if (file !== undefined) closeSync(file);
  res.statusCode = 500;
  res.end(error.message);
}

function nextPath(): string {
  return join(into, String(files++));
}
