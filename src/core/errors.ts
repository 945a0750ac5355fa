/**
 * Every failure a client can be told about: code -> HTTP status and the sentence it reads.
 * docs/errors.md lists the same table; a test keeps the two equal.
 * Anything thrown that is neither a Failure nor an Unavailable is a bug and answers 500.
 */
export const FAILURES = {
  MALFORMED_REQUEST: { status: 400, message: "The request could not be understood." },
  MALFORMED_MULTIPART: { status: 400, message: "The multipart form is malformed or was cut off." },
  FILE_REQUIRED: { status: 400, message: "Send the file in the form field 'file'." },
  EMPTY_FILE: { status: 400, message: "The file is empty: zero bytes are not accepted." },
  UNEXPECTED_FIELD: { status: 400, message: "Only one file, in the field 'file', is accepted at a time." },
  TOO_MANY_FIELDS: { status: 400, message: "The form has too many or too long fields." },
  INVALID_FILE_NAME: { status: 400, message: "The file name is not acceptable." },
  INVALID_UPLOADER_ID: { status: 400, message: "uploader_id is at most 128 characters, without control characters." },
  INVALID_IDEMPOTENCY_KEY: { status: 400, message: "Idempotency-Key is 1 to 255 printable ASCII characters." },
  INVALID_QUERY: { status: 400, message: "A query parameter is not valid." },
  INVALID_EVENT: { status: 400, message: "The event is not valid." },
  MALFORMED_TUS_HEADER: { status: 400, message: "A header of the tus protocol is missing or not valid." },
  FINAL_UPLOAD: { status: 403, message: "A final upload is made of its parts: nothing is sent to it." },
  CROSS_SITE_REQUEST: { status: 403, message: "This came from another site's page, so it was not done." },
  ORIGIN_NOT_ALLOWED: { status: 403, message: "Pages of this origin may not send events here (EVENT_ORIGINS)." },
  FILE_NOT_FOUND: { status: 404, message: "No such file, or it is not yours." },
  UPLOAD_NOT_FOUND: { status: 404, message: "No such upload under way: it is not yours, was terminated, or has expired." },
  DEAD_LETTER_NOT_FOUND: { status: 404, message: "No such dead letter, or it is not yours." },
  NOT_FOUND: { status: 404, message: "There is nothing at this address." },
  METHOD_NOT_ALLOWED: { status: 405, message: "This address does not take that method; see the Allow header." },
  REQUEST_TIMEOUT: { status: 408, message: "Nothing or too little arrived for too long, so the request was given up." },
  DEAD_LETTER_WITHOUT_BYTES: { status: 409, message: "Its bytes are no longer in the inbox, so it cannot be tried again." },
  OFFSET_MISMATCH: { status: 409, message: "The upload stands at another offset. Ask for it with HEAD, and go on from there." },
  PART_INCOMPLETE: { status: 409, message: "A part of the final upload is not complete yet." },
  UPLOAD_COMPLETE: { status: 409, message: "The upload is complete and promised, so it cannot be terminated." },
  UNSUPPORTED_TUS_VERSION: { status: 412, message: "Send Tus-Resumable: 1.0.0, the one version that is spoken here." },
  FILE_TOO_LARGE: { status: 413, message: "The file is larger than MAX_UPLOAD_BYTES." },
  EVENTS_TOO_LARGE: { status: 413, message: "The body is larger than one request may be." },
  TOO_MANY_EVENTS: { status: 413, message: "One request takes at most 10,000 events." },
  TOO_MANY_PIECES: { status: 413, message: "The upload came in too many pieces. Send fewer, larger ones." },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, message: "Send the file as multipart/form-data, or PUT its bytes." },
  FILE_TYPE_NOT_ALLOWED: { status: 415, message: "Files of this type are not accepted here." },
  RANGE_NOT_SATISFIABLE: { status: 416, message: "The file does not reach that far." },
  IDEMPOTENCY_KEY_REUSED: { status: 422, message: "This Idempotency-Key was used for a file with other bytes." },
  UPLOAD_IN_USE: { status: 423, message: "Another request is sending to this upload. Try again in a moment." },
  TOO_MANY_UPLOADS: { status: 429, message: "Too many uploads in too short a time. Try again in a minute." },
  TOO_MANY_REQUESTS: { status: 429, message: "Too much in too short a time. Try again in a minute." },
  HEADERS_TOO_LARGE: { status: 431, message: "The request headers are larger than 16 KiB." },
  CHECKSUM_MISMATCH: { status: 460, message: "The bytes do not have the checksum that came with them. Nothing was kept of them." },
  INTERNAL_ERROR: { status: 500, message: "Something went wrong on our side. It was logged under this request id." },
  FILE_DAMAGED: { status: 502, message: "The stored bytes are not those that were handed in, so they are not served." },
  SHUTTING_DOWN: { status: 503, message: "The server is restarting. Try again in a moment." },
  TOO_BUSY: { status: 503, message: "As much is under way as the server can take. Try again in a moment." },
  BACKLOG_FULL: { status: 503, message: "As much is waiting to be settled as the server may hold. Try again later." },
  EVENTS_BACKLOG_FULL: { status: 503, message: "As many events are waiting to be counted as the server may hold. Try again later." },
  UNAVAILABLE: { status: 503, message: "Something this needs is not reachable right now. Try again in a moment." },
  OUT_OF_SPACE: { status: 507, message: "There is no room for the file. Nothing was kept of it." },
} as const satisfies Record<string, { status: number; message: string }>;

export type FailureCode = keyof typeof FAILURES;

/** An expected failure: the client did something we can name. `detail` replaces the table's sentence. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly code: FailureCode;
  readonly status: number;
  /** When it is worth trying again, where we know better than the answer's default. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: FailureCode, detail?: string, options?: ErrorOptions & { retryAfterSeconds?: number }) {
    super(detail ?? FAILURES[code].message, options);
    this.code = code;
    this.status = FAILURES[code].status;
    this.retryAfterSeconds = options?.retryAfterSeconds;
  }
}

export type Dependency = "redis" | "postgres" | "inbox" | "storage";

/**
 * Something outside this process did not do its part: unreachable, timed out, refused, or full.
 * It is nobody's fault who asked: the door answers 503 (507 when `full`), the worker waits and spends no attempt.
 */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
  readonly dependency: Dependency;
  readonly full: boolean;
  /** It answers, and what it says does not pass by itself: somebody has to look. */
  readonly refused: boolean;

  constructor(dependency: Dependency, options: { cause?: unknown; full?: boolean; refused?: boolean } = {}) {
    const reason = options.cause instanceof Error ? options.cause.message : String(options.cause ?? "no answer");
    super(`${dependency} is ${options.full ? "full" : "unavailable"}: ${reason}`, { cause: options.cause });
    this.dependency = dependency;
    this.full = options.full ?? false;
    this.refused = options.refused ?? false;
  }
}
