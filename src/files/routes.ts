import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import contentDisposition from "content-disposition";
import { Router, type Request, type Response } from "express";
import { z } from "zod";
import { accountOf } from "../accounts/authenticate.ts";
import { Failure } from "../core/errors.ts";
import { allow, sendJson } from "../http/answer-errors.ts";
import { addressOf } from "../http/client-address.ts";
import { parseQuery } from "../http/validate.ts";
import { Damaged } from "../objects/object-store.ts";
import type { Downloads } from "./downloads.ts";
import { LISTED, type Files, type ListedFile, type ServableFile } from "./files.ts";

/** What GET /api/files takes, and the page that shows the same. */
export const ListQuery = z.object({
  limit: z.coerce.number().int().min(1).max(500).default(50),
  cursor: z.string().max(200).optional(),
  q: z.string().trim().max(200).regex(/^\P{Cc}*$/u, "has control characters").optional(),
  status: z.enum(LISTED).default("stored"),
});

export function createFilesRouter({ files, downloads }: { files: Files; downloads: Downloads }): Router {
  const router = Router();

  router.route("/api/files")
    .get(async (req, res) => {
      const { q: text, ...wanted } = parseQuery(ListQuery, req.query);
      const page = await files.list(accountOf(res), { ...wanted, text });
      sendJson(res, 200, { files: page.files.map(describeListed), next_cursor: page.nextCursor });
    })
    .all(allow("GET", "HEAD"));

  router.route("/api/files/:id")
    .get(async (req, res) => {
      const file = await files.find(accountOf(res), req.params.id);
      // Bytes are what a download asks for; metadata only for those who name JSON and nothing that means "anything".
      if (/^application\/json\b/.test(req.headers.accept ?? "")) return sendJson(res, 200, describeFile(file));
      await sendBytes(req, res, file, downloads);
    })
    .all(allow("GET", "HEAD"));

  return router;
}

/** A line of a list as the API shows it: a file, and what became of it. */
export function describeListed(file: ListedFile) {
  return { ...describeFile(file), status: file.status, reason: file.reason };
}

/** A file as the API shows it. */
export function describeFile(file: Omit<ListedFile, "status" | "reason">) {
  return {
    id: file.id,
    name: file.name,
    size: file.sizeBytes,
    sha256: file.sha256,
    content_type: file.contentType,
    uploader_id: file.uploaderId,
    event_time: file.eventTime,
    stored_at: file.storedAt,
    damaged: file.problem !== null,
    url: `/api/files/${file.id}`,
    status_url: `/api/files/${file.id}/status`,
  };
}

/**
 * The bytes, whole or a range. What strangers handed in is never shown in our origin: always a download, never
 * sniffed, and in a sandbox should a browser open it all the same.
 */
async function sendBytes(req: Request, res: Response, file: ServableFile, downloads: Downloads): Promise<void> {
  const etag = `"${file.sha256}"`;
  res.setHeader("ETag", etag);
  res.setHeader("Accept-Ranges", "bytes");
  res.setHeader("Cache-Control", "private, no-cache");
  if (matches(req.headers["if-none-match"], etag)) {
    res.status(304).end();
    return;
  }
  if (file.problem !== null) throw new Failure("FILE_DAMAGED");
  res.setHeader("Last-Modified", file.eventTime.toUTCString());
  res.setHeader("Content-Type", file.contentType);
  res.setHeader("Content-Disposition", contentDisposition(file.name, { type: "attachment", fallback: asciiOf(file.name) }));
  res.setHeader("Content-Security-Policy", "sandbox; default-src 'none'");
  res.setHeader("Cross-Origin-Resource-Policy", "same-origin");

  const range = wantedRange(req, res, file, etag);
  if (range) {
    res.status(206).setHeader("Content-Range", `bytes ${range.start}-${range.end}/${file.sizeBytes}`);
  }
  res.setHeader("Content-Length", range ? range.end - range.start + 1 : file.sizeBytes);
  if (req.method === "HEAD") {
    res.end();
    return;
  }
  const giveBack = downloads.admit(addressOf(req));
  try {
    await send(await file.open(range), req, res);
  } catch (error) {
    if (error instanceof Damaged) throw new Failure("FILE_DAMAGED", undefined, { cause: error });
    if ((error as NodeJS.ErrnoException).code !== "ERR_STREAM_PREMATURE_CLOSE") throw error; // the client went away: nobody is left to tell
  } finally {
    giveBack(); // not before: what opening it reads is read to its end, whether its client waits or not
  }
}

/** An answer that still waits behind another one on its connection never hears that this was closed: here it does. */
async function send(bytes: Readable, { socket }: Request, res: Response): Promise<void> {
  let leave = () => {};
  const left = new Promise<void>((resolve) => void (leave = () => res.socket ?? resolve()));
  socket.once("close", leave);
  if (socket.destroyed) leave();
  await Promise.race([pipeline(bytes, res), left]).finally(() => {
    socket.off("close", leave);
    bytes.destroy();
  });
}

/** "first-last", "first-" or "-count". */
const RANGE = /^bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*$/i;

/**
 * The one range that is asked for. Undefined: the whole file, as for several ranges or a senseless one, or for HEAD,
 * which knows no ranges (RFC 9110, 14.2).
 * @throws Failure RANGE_NOT_SATISFIABLE
 */
function wantedRange(req: Request, res: Response, { sizeBytes }: ServableFile, etag: string): { start: number; end: number } | undefined {
  const ifRange = req.headers["if-range"];
  const asked = RANGE.exec(req.headers.range ?? "");
  if (!asked || req.method !== "GET" || (ifRange !== undefined && ifRange !== etag)) return undefined;
  const [, first, last, count] = asked;
  if (first !== undefined && last && Number(last) < Number(first)) return undefined;
  const start = first !== undefined ? Number(first) : Math.max(0, sizeBytes - Number(count));
  const end = Math.min(last ? Number(last) : Infinity, sizeBytes - 1);
  if (start <= end) return { start, end };
  res.setHeader("Content-Range", `bytes */${sizeBytes}`);
  throw new Failure("RANGE_NOT_SATISFIABLE");
}

/** For clients that do not read filename*: raw latin1, which the package would send, is read as UTF-8 by most of them. */
function asciiOf(name: string): string {
  return name.replace(/[^ -~]/gu, "?");
}

function matches(header: string | undefined, etag: string): boolean {
  return header !== undefined && header.split(",").some((tag) => tag.trim() === "*" || tag.trim().replace(/^W\//, "") === etag);
}
