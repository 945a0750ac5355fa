import { Router, type Request, type RequestHandler, type Response } from "express";
import { accountOf } from "../accounts/authenticate.ts";
import { Failure } from "../core/errors.ts";
import { allow, sendJson } from "../http/answer-errors.ts";
import { addressOf } from "../http/client-address.ts";
import { letGoOn } from "../http/expect-continue.ts";
import { createFormReader } from "../http/multipart.ts";
import type { RateLimits } from "../http/rate-limit.ts";
import type { Accept, Receipt } from "./accept.ts";
import type { Admission, Place } from "./admission.ts";
import { describeAudit, type AuditReader } from "./audit/audit.ts";
import { describeCounts, type CountsReader } from "./counts.ts";
import { cleanFileName } from "./file-name.ts";
import type { Inbox, Received } from "./inbox.ts";
import { readIdempotencyKey, readUploaderId, uploaderHeaderOf } from "./request-fields.ts";
import { describeStatus, type StatusReader } from "./status.ts";

export interface DoorSettings {
  accept: Accept;
  inbox: Inbox;
  admission: Admission;
  /** Of uploads a minute, by "address" and by "account". */
  rates: RateLimits;
  limitBytes: number;
}

/** What a form adds to its file: boundary, part headers, the other fields. */
const FORM_OVERHEAD_BYTES = 65_536;
const FORM_TYPE = /^multipart\/form-data\s*(;|$)/i;

export type Door = ReturnType<typeof createDoor>;

/** The two ways in over plain HTTP. Both stream into the inbox and end in accept. */
export function createDoor({ accept, inbox, admission, rates, limitBytes }: DoorSettings) {
  const mostFormBytes = limitBytes + FORM_OVERHEAD_BYTES;
  const readForm = createFormReader<Received>("file", mostFormBytes, {
    async receive(stream, { fileName, declaredType }) {
      cleanFileName(fileName); // refused now, not after gigabytes
      return inbox.receive(stream, declaredType);
    },
    discard: (received) => inbox.discard(received),
  });

  /** A multipart form with one file in the field "file". @throws Failure; see docs/errors.md */
  async function takeForm(req: Request, res: Response): Promise<Receipt> {
    if (!FORM_TYPE.test(req.headers["content-type"] ?? "")) throw new Failure("UNSUPPORTED_MEDIA_TYPE");
    const idempotencyKey = readIdempotencyKey(req);
    const place = welcome(req, res, mostFormBytes);
    const { form, over } = readForm(req, res);
    try {
      const { file, fields } = await form;
      if (!file) throw new Failure("FILE_REQUIRED");
      const receipt = await accept.accept({
        accountId: accountOf(res), received: file.received, fileName: file.fileName, declaredType: file.declaredType,
        uploaderId: await orDiscard(file.received, () => readUploaderId(fields.uploader_id)), idempotencyKey,
      });
      place.accepted(receipt.size);
      return receipt;
    } finally {
      void over.then(place.release);
    }
  }

  /** The bytes as they are, the name in the address. */
  async function takeBody(req: Request<{ filename: string }>, res: Response): Promise<Receipt> {
    const idempotencyKey = readIdempotencyKey(req);
    const uploaderId = readUploaderId(req.query.uploader_id ?? uploaderHeaderOf(req));
    const fileName = cleanFileName(req.params.filename);
    const place = welcome(req, res, limitBytes);
    try {
      const declaredType = req.headers["content-type"];
      const received = await inbox.receive(req, declaredType);
      const receipt = await accept.accept({ accountId: accountOf(res), received, fileName, declaredType, uploaderId, idempotencyKey });
      place.accepted(receipt.size);
      return receipt;
    } finally {
      place.release();
    }
  }

  /** Refuses before a byte of the body is read, or tells a client that waits to go on. @throws Failure; see docs/errors.md */
  function welcome(req: Request, res: Response, mostBytes: number): Place {
    const header = req.headers["content-length"];
    const sizeBytes = header === undefined ? undefined : Number(header);
    if (sizeBytes !== undefined && sizeBytes > mostBytes) throw new Failure("FILE_TOO_LARGE");
    const address = addressOf(req);
    const place = rates.limited(res, { address, account: accountOf(res) }, () => admission.admit(address, sizeBytes));
    letGoOn(req, res);
    return place;
  }

  async function orDiscard<T>(received: Received, check: () => T): Promise<T> {
    try {
      return check();
    } catch (error) {
      await inbox.discard(received);
      throw error;
    }
  }

  return { takeForm, takeBody };
}

export function createUploadsRouter({ door, statusOf, counts, audit }: {
  door: Door;
  statusOf: StatusReader;
  counts: CountsReader;
  audit: AuditReader;
}): Router {
  const router = Router();

  router.route("/api/upload")
    .post(async (req, res) => sendJson(res, 202, await door.takeForm(req, res)))
    .all(allow("POST"));

  router.route("/api/upload/:filename")
    .put(async (req, res) => sendJson(res, 202, await door.takeBody(req, res)))
    .all(allow("PUT"));

  router.route("/api/files/:id/status")
    .get(async (req, res) => {
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, describeStatus(await statusOf(accountOf(res), req.params.id)));
    })
    .all(allow("GET", "HEAD"));

  router.route("/api/counts")
    .get((async (_req, res) => {
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, describeCounts(await counts.counts()));
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  router.route("/api/audit")
    .get((async (_req, res) => {
      res.setHeader("Cache-Control", "no-store");
      sendJson(res, 200, describeAudit(await audit.latest()));
    }) as RequestHandler)
    .all(allow("GET", "HEAD"));

  return router;
}
