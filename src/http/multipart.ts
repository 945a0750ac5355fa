import type { Readable, Writable } from "node:stream";
import type { Request, Response } from "express";
import multer, { MulterError } from "multer";
import { Failure, type FailureCode } from "../core/errors.ts";

/** A file that came in a form: what the sink made of its bytes, and what the client said of it. */
export interface FormFile<Received> {
  received: Received;
  fileName: string;
  /** As the part's header says; "text/plain" where it says nothing (RFC 7578, 4.4). */
  declaredType: string;
}

export interface ReadingForm<Received> {
  /** Rejects with the first thing that goes wrong, at once. */
  form: Promise<Form<Received>>;
  /** Resolves when nothing is received any more and, if the form failed, nothing of it is left. Never rejects. */
  over: Promise<void>;
}

export interface Form<Received> {
  file: FormFile<Received> | undefined;
  fields: Record<string, unknown>;
}

/** Where the bytes of a form's file go. */
export interface Sink<Received> {
  /** Consumes the stream. What it throws ends the request. */
  receive(stream: Readable, file: { fileName: string; declaredType: string }): Promise<Received>;
  /** The form failed after all: what was received is not wanted. */
  discard(received: Received): Promise<void>;
}

const LIMITS = {
  files: 1,
  fields: 10,
  parts: 12,
  fieldNameSize: 100, // bytes
  fieldSize: 2_048, // bytes; the longest field we know is 128 characters
  headerPairs: 32,
  fieldNestingDepth: 0,
  fieldArrayIndexLimit: 0,
};

const NESTED = /[[\]]/;

/** busboy 1.6. */
interface Parser extends Writable {
  /** It has seen the form's end. All the same it goes on reading the chunk that this was in, and a file that begins there never ends. */
  _complete?: boolean;
}

/**
 * Reads a multipart form of at most `mostBytes` with one file in the field `fieldName`, by multer with a storage engine
 * that hands the bytes to `sink` as they come; nothing is kept in memory or on a disk here.
 *
 * multer answers a failure only after reading the request to its end. Here the first thing that goes wrong rejects at
 * once; the error handler then answers and closes the connection.
 */
export function createFormReader<Received>(fieldName: string, mostBytes: number, sink: Sink<Received>) {
  interface Engaged extends Request {
    refuse?: (reason: unknown) => void;
    /** busboy, once it has begun. */
    parser?: Parser;
    receiving?: Promise<Received>;
  }
  const middleware = multer({
    defParamCharset: "utf8", // latin1 by default
    preservePath: true, // or ".." would be no name at all; the sink sees to it
    limits: LIMITS,
    storage: {
      _handleFile(req: Engaged, file, done) {
        req.receiving = sink.receive(file.stream, { fileName: file.originalname, declaredType: file.mimetype });
        req.receiving.then(
          (received) => done(null, { received } as object),
          (error) => {
            const reason = file.stream.errored ?? error; // the form broke off: it knows better why
            req.refuse?.(reason);
            done(reason);
          });
      },
      _removeFile(_req, _file, done) {
        done(null); // when a form fails, refuse sees to it
      },
    },
    streamHandler(req: Engaged, busboy: Parser) {
      req.parser = busboy;
      const refuse = (code: FailureCode) => req.refuse?.(new Failure(code));
      busboy.on("error", (error) => req.refuse?.(error));
      busboy.on("filesLimit", () => refuse("UNEXPECTED_FIELD"));
      busboy.on("fieldsLimit", () => refuse("TOO_MANY_FIELDS"));
      busboy.on("partsLimit", () => refuse("TOO_MANY_FIELDS"));
      busboy.on("file", (name?: string, _stream?: Readable, { filename }: { filename?: string } = {}) => {
        if (name === undefined || busboy._complete) refuse("MALFORMED_MULTIPART");
        else if (filename && name !== fieldName) refuse("UNEXPECTED_FIELD");
      });
      busboy.on("field", (name?: string, _value?: string, { valueTruncated }: { valueTruncated?: boolean } = {}) => {
        if (name === undefined || busboy._complete) refuse("MALFORMED_MULTIPART");
        else if (valueTruncated || name.length > LIMITS.fieldNameSize || NESTED.test(name)) refuse("TOO_MANY_FIELDS");
      });
      if (req.headers["content-length"] === undefined) countBytes(req, mostBytes, () => refuse("FILE_TOO_LARGE"));
      req.pipe(busboy);
    },
  } as multer.Options).single(fieldName);

  return function readForm(req: Request, res: Response): ReadingForm<Received> {
    const engaged: Engaged = req;
    let isOver = () => {};
    const over = new Promise<void>((resolve) => (isOver = resolve));
    const form = new Promise<Form<Received>>((resolve, reject) => {
      let refused = false;
      const refuse = (reason: unknown) => {
        if (refused) return;
        refused = true;
        const failure = toFailure(reason);
        reject(failure);
        // The rest of the form may never come: multer has to know, or what was received stays. Not amid its parsing.
        process.nextTick(() => {
          engaged.parser?.destroy(failure);
          void discard(engaged.receiving).then(isOver);
        });
      };
      engaged.refuse = refuse;
      middleware(req, res, (error: unknown) => {
        if (error) return refuse(error);
        if (!engaged.parser) return refuse(new Failure("MALFORMED_MULTIPART")); // no body, or a boundary multer makes nothing of
        if (refused) return;
        const file = req.file as (Express.Multer.File & { received: Received }) | undefined;
        resolve({
          file: file && { received: file.received, fileName: file.originalname, declaredType: file.mimetype },
          fields: (req.body ?? {}) as Record<string, unknown>,
        });
        isOver();
      });
    });
    return { form, over };
  };

  async function discard(receiving: Promise<Received> | undefined): Promise<void> {
    try {
      if (receiving) await sink.discard(await receiving);
    } catch {} // what was not received left nothing
  }
}

/** Of what is no file's bytes (an endless preamble, a part that is skipped) nobody else counts the length. */
function countBytes(req: Request, mostBytes: number, onPast: () => void): void {
  let sizeBytes = 0;
  req.on("data", (chunk: Buffer) => {
    sizeBytes += chunk.length;
    if (sizeBytes > mostBytes) onPast();
  });
}

const MULTER_CODES: Record<string, FailureCode> = {
  LIMIT_UNEXPECTED_FILE: "UNEXPECTED_FIELD",
  LIMIT_FILE_COUNT: "UNEXPECTED_FIELD",
  MISSING_FIELD_NAME: "MALFORMED_MULTIPART",
  INVALID_FIELD_NAME: "MALFORMED_MULTIPART",
};

/** busboy's complaints are plain Errors; these are all the sentences of busboy 1.6 and of multer's own clean-up. */
const MALFORMED = /^(Unexpected end of (form|file)|Malformed part header|Malformed content type|Multipart: Boundary not found|Missing Content-Type|Unsupported content type|Request (aborted|closed|error)|aborted)/;

function toFailure(reason: unknown): Error {
  if (reason instanceof MulterError) return new Failure(MULTER_CODES[reason.code] ?? "TOO_MANY_FIELDS", undefined, { cause: reason });
  if (reason instanceof Error && MALFORMED.test(reason.message)) return new Failure("MALFORMED_MULTIPART", undefined, { cause: reason });
  return reason instanceof Error ? reason : new Error("a form failed", { cause: reason });
}
