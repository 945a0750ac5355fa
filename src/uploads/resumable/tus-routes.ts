import { Router, type Request, type RequestHandler, type Response } from "express";
import { accountOf } from "../../accounts/authenticate.ts";
import { Failure, Unavailable } from "../../core/errors.ts";
import { allow } from "../../http/answer-errors.ts";
import { addressOf } from "../../http/client-address.ts";
import { letGoOn } from "../../http/expect-continue.ts";
import type { RateLimits } from "../../http/rate-limit.ts";
import type { Accept } from "../accept.ts";
import type { Admission, Place } from "../admission.ts";
import type { Inbox } from "../inbox.ts";
import type { PartialUpload } from "./partial-record.ts";
import { overlong } from "./piece-intake.ts";
import { readIdempotencyKey, readUploaderId } from "../request-fields.ts";
import { uploadOf } from "./resumable-finish.ts";
import type { NewUpload, Resumable, Standing } from "./resumable.ts";
import { CHECKSUM_ALGORITHMS, readBytes, readChecksum, readConcat, readLength, readMetadata, TUS_EXTENSIONS, TUS_VERSION, UPLOADS_PATH } from "./tus-headers.ts";

export interface TusSettings {
  resumable: Resumable;
  accept: Accept;
  inbox: Inbox;
  admission: Admission;
  rates: RateLimits;
  limitBytes: number;
}

type Id = { id: string };
const RETRY_AFTER_SECONDS = 5;
const BODY_TYPE = "application/offset+octet-stream";

/** Resumable uploads: tus 1.0 (https://tus.io/protocols/resumable-upload). An upload's id is its file's later on. */
export function createTusRouter({ resumable, accept, inbox, admission, rates, limitBytes }: TusSettings): Router {
  const router = Router();

  router.use(UPLOADS_PATH, (req, res, next) => {
    res.setHeader("Tus-Resumable", TUS_VERSION);
    res.setHeader("Cache-Control", "no-store");
    const override = req.method === "POST" ? req.get("X-HTTP-Method-Override")?.toUpperCase() : undefined;
    if (override === "PATCH" || override === "DELETE") req.method = override; // HEAD would be answered without the body it announces
    next();
  });

  router.route(UPLOADS_PATH)
    .options((_req, res) => answerOptions(res))
    .post(versioned, async (req, res) => {
      const concat = readConcat(req);
      const metadata = readHeader(req, "Upload-Metadata");
      readUploaderId(readMetadata(metadata).uploaderId); // refused now, not after gigabytes
      const fresh = { ownerId: accountOf(res), metadata, idempotencyKey: readIdempotencyKey(req) };
      await withPlace(req, async (place) => {
        if (concat?.kind === "final") return concatenate(req, res, place, fresh, concat.parts);
        return create(req, res, place, { ...fresh, sizeBytes: readLength(req), isPart: concat !== null });
      });
    })
    .all(allow("OPTIONS", "POST"));

  router.route(`${UPLOADS_PATH}/:id`)
    .options((_req, res) => answerOptions(res))
    .head(versioned, async (req: Request<Id>, res) => {
      const { partial, standing } = await standingOf(req, accountOf(res), req.params.id).catch(asLocked);
      describe(res, standing);
      if (standing.sizeBytes === null) res.setHeader("Upload-Defer-Length", "1");
      else res.setHeader("Upload-Length", standing.sizeBytes);
      if (partial.metadata !== null) res.setHeader("Upload-Metadata", partial.metadata);
      if (partial.concat) res.setHeader("Upload-Concat", concatOf(partial.concat));
      res.status(200).end();
    })
    .patch(versioned, async (req: Request<Id>, res) => {
      const offset = readBytes(req, "Upload-Offset");
      if (offset === undefined) throw new Failure("MALFORMED_TUS_HEADER", "PATCH takes an Upload-Offset.");
      assertBodyType(req);
      const checksum = readChecksum(req);
      const length = readBytes(req, "Upload-Length");
      const partial = await resumable.find(accountOf(res), req.params.id);
      if (partial.concat?.kind === "final") throw new Failure("FINAL_UPLOAD");
      await withPlace(req, async (place) => {
        const standing = await resumable.append(partial, req, {
          offset, length, checksum, welcome: (leftBytes) => welcome(req, res, place, leftBytes), admit: place.exchange,
        });
        place.promised(standing);
        describe(res, standing);
        res.status(204).end();
      });
    })
    .delete(versioned, async (req: Request<Id>, res) => {
      await resumable.terminate(await resumable.find(accountOf(res), req.params.id));
      res.status(204).end();
    })
    .all(allow("OPTIONS", "HEAD", "PATCH", "DELETE"));

  async function standingOf(req: Request, ownerId: string, id: string): Promise<{ partial: PartialUpload; standing: Standing }> {
    const partial = await resumable.find(ownerId, id);
    return withPlace(req, async (place) => {
      const standing = await resumable.standing(partial, place.exchange);
      place.promised(standing);
      return { partial, standing };
    });
  }

  async function create(req: Request, res: Response, place: Taking, fresh: NewUpload): Promise<void> {
    const bodyBytes = announcedBytes(req);
    if (bodyBytes !== 0) assertBodyType(req);
    const checksum = readChecksum(req);
    resumable.assertSize(fresh.sizeBytes);
    if (bodyBytes !== undefined && bodyBytes > (fresh.sizeBytes ?? limitBytes)) throw new Failure("FILE_TOO_LARGE", "The body is longer than the upload.");
    rates.limited(res, subjectsOf(req, res), () => place.take(bodyBytes));
    if (bodyBytes !== 0 && bodyBytes === fresh.sizeBytes && !fresh.isPart && !checksum) return acceptWhole(req, res, place, fresh);
    const partial = await resumable.create(fresh);
    const standing = bodyBytes === 0
      ? await resumable.standing(partial, place.exchange)
      : await resumable.append(partial, req, { offset: 0, length: undefined, checksum, welcome: () => letGoOn(req, res), admit: place.exchange });
    place.promised(standing);
    answerCreated(res, partial.upload_id, standing);
  }

  /** All of it comes with its creation: the same short way as through the other doors. */
  async function acceptWhole(req: Request, res: Response, place: Taking, fresh: NewUpload): Promise<void> {
    const id = resumable.newUploadId(fresh.ownerId, fresh.idempotencyKey);
    if (fresh.idempotencyKey !== undefined) await resumable.assertUnused(fresh, id);
    letGoOn(req, res);
    const received = await inbox.receive(req, readMetadata(fresh.metadata).declaredType);
    await accept.accept(uploadOf({ upload_id: id, owner_id: fresh.ownerId, metadata: fresh.metadata }, received));
    place.accepted(fresh.sizeBytes!);
    await resumable.remember(fresh, id);
    answerCreated(res, id, { offset: fresh.sizeBytes!, expiresAt: undefined });
  }

  async function concatenate(req: Request, res: Response, place: Taking, fresh: Omit<NewUpload, "isPart" | "sizeBytes">, parts: string[]): Promise<void> {
    if (req.get("Upload-Length") !== undefined || req.get("Upload-Defer-Length") !== undefined) throw new Failure("MALFORMED_TUS_HEADER", "A final upload is as long as its parts: it takes no Upload-Length.");
    if (announcedBytes(req) !== 0) throw new Failure("FINAL_UPLOAD");
    rates.limited(res, subjectsOf(req, res), () => {});
    const { partial, standing } = await resumable.concatenate(fresh, parts, place.exchange);
    place.promised(standing);
    answerCreated(res, partial.upload_id, standing);
  }

  /** Before a byte of the body is read. @throws Failure as the other doors */
  function welcome(req: Request, res: Response, place: Taking, leftBytes: number): void {
    const bodyBytes = announcedBytes(req);
    if (bodyBytes !== undefined && bodyBytes > leftBytes) throw overlong();
    place.take(bodyBytes);
    letGoOn(req, res);
  }

  type Taking = ReturnType<typeof openPlace>;

  async function withPlace<T>(req: Request, work: (place: Taking) => Promise<T>): Promise<T> {
    const place = openPlace(addressOf(req));
    try {
      return await work(place);
    } finally {
      place.release();
    }
  }

  /** A place that is taken once it is known what for. */
  function openPlace(address: string) {
    let taken: Place | undefined;
    const place = {
      take(sizeBytes: number | undefined): void {
        taken ??= admission.admit(address, sizeBytes);
      },
      /** What the body needed is not needed any more, but something else. */
      exchange(sizeBytes: number): void {
        taken?.release();
        taken = undefined;
        place.take(sizeBytes);
      },
      accepted: (sizeBytes: number) => taken?.accepted(sizeBytes),
      promised: ({ isNew, offset }: Standing) => isNew && place.accepted(offset),
      release: () => taken?.release(),
    };
    return place;
  }

  function answerOptions(res: Response): void {
    res.setHeader("Tus-Version", TUS_VERSION);
    res.setHeader("Tus-Max-Size", limitBytes);
    res.setHeader("Tus-Extension", TUS_EXTENSIONS);
    res.setHeader("Tus-Checksum-Algorithm", CHECKSUM_ALGORITHMS.join(","));
    res.status(204).end();
  }

  return router;
}

/** Not of OPTIONS, which asks for the version, nor where the method is refused anyway. @throws Failure UNSUPPORTED_TUS_VERSION */
const versioned: RequestHandler<never> = (req, res, next) => {
  if (req.get("Tus-Resumable") === TUS_VERSION) return next();
  res.setHeader("Tus-Version", TUS_VERSION);
  throw new Failure("UNSUPPORTED_TUS_VERSION");
};

/** Relative, so that it is right behind any proxy. */
function answerCreated(res: Response, id: string, standing: Pick<Standing, "offset" | "expiresAt">): void {
  res.setHeader("Location", `${UPLOADS_PATH}/${id}`);
  describe(res, standing);
  res.status(201).end();
}

function describe(res: Response, { offset, expiresAt }: Pick<Standing, "offset" | "expiresAt">): void {
  res.setHeader("Upload-Offset", offset);
  if (expiresAt) res.setHeader("Upload-Expires", expiresAt.toUTCString());
}

function concatOf(concat: NonNullable<PartialUpload["concat"]>): string {
  return concat.kind === "partial" ? "partial" : `final;${concat.parts.map((id) => `${UPLOADS_PATH}/${id}`).join(" ")}`;
}

function subjectsOf(req: Request, res: Response): Record<string, string> {
  return { address: addressOf(req), account: accountOf(res) };
}

/**
 * HEAD is answered so that clients ask again: tus-js-client (4.3) takes any failure but 423 as the upload's being gone, and
 * begins a new one.
 */
function asLocked(error: unknown): never {
  const passes = error instanceof Unavailable || (error instanceof Failure && (error.status === 503 || error.status === 507));
  throw passes ? new Failure("UPLOAD_IN_USE", undefined, { cause: error, retryAfterSeconds: RETRY_AFTER_SECONDS }) : error;
}

/** Undefined: the client does not say. */
function announcedBytes(req: Request): number | undefined {
  if (req.headers["transfer-encoding"] !== undefined) return undefined;
  return Number(req.headers["content-length"] ?? 0);
}

function assertBodyType(req: Request): void {
  if (req.get("Content-Type")?.split(";", 1)[0]!.trim().toLowerCase() !== BODY_TYPE) {
    throw new Failure("UNSUPPORTED_MEDIA_TYPE", `Send the bytes as ${BODY_TYPE}.`);
  }
}

function readHeader(req: Request, name: string): string | null {
  const text = req.get(name);
  return text === undefined || text === "" ? null : text;
}
