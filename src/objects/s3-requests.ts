import { S3Client } from "@aws-sdk/client-s3";
import { Unavailable, type Dependency } from "../core/errors.ts";

export interface S3Connection {
  dependency: Dependency;
  region: string;
  /** Left out: AWS itself. */
  endpoint?: string | undefined;
  /** Left out: the SDK's own chain (environment, instance role). */
  accessKeyId?: string | undefined;
  secretAccessKey?: string | undefined;
  forcePathStyle?: boolean;
  connectTimeoutMs?: number;
  /** One attempt, from the request to the head of the answer; it has to be enough to send a part. */
  requestTimeoutMs?: number;
  /** The longest silence in the middle of a download. */
  idleTimeoutMs?: number;
  maxAttempts?: number;
  /** Connections at once; further requests wait for one, and their wait counts as part of requestTimeoutMs. */
  maxConnections?: number;
}

/** An answer that is expected in some place, as opposed to trouble. */
export const STATUS = { NOT_FOUND: 404, CONFLICT: 409, EXISTS: 412, CHANGED: 412, RANGE: 416, NOT_IMPLEMENTED: 501 } as const;

/**
 * The SDK with every timeout set: by default it has none, and its requestTimeout only logs a warning.
 * socketTimeout stays off: it would also end downloads whose reader is slow, and the deadline below bounds the rest.
 */
export function openRequests(connection: S3Connection) {
  const { dependency, region, endpoint, accessKeyId, secretAccessKey, forcePathStyle = false } = connection;
  const { connectTimeoutMs = 3_000, requestTimeoutMs = 30_000, maxAttempts = 3, maxConnections = 64 } = connection;
  const agent = { keepAlive: true, maxSockets: maxConnections };
  // Other servers than AWS know neither trailing checksums nor answer with them.
  const checksums = endpoint === undefined ? "WHEN_SUPPORTED" : "WHEN_REQUIRED";
  const client = new S3Client({
    region,
    forcePathStyle,
    maxAttempts,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    // By default bodies over 2 MiB ask for leave first, each on a new connection.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
      socketTimeout: 0,
      httpAgent: agent,
      httpsAgent: agent,
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKeyId && secretAccessKey ? { credentials: { accessKeyId, secretAccessKey } } : {}),
  });
  /** All attempts with the SDK's waits between them (20 s at the most, each). */
  const deadlineMs = maxAttempts * requestTimeoutMs + (maxAttempts - 1) * 5_000;
  let closed = false;

  /** Sends with a deadline that includes the body of the answer: a server can hang in the middle of one, too. */
  async function answer<T>(send: (client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>, withinMs = deadlineMs): Promise<T> {
    assertOpen();
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), withinMs);
    try {
      return await send(client, { abortSignal: abort.signal });
    } catch (error) {
      throw abort.signal.aborted ? new Unavailable(dependency, { cause: new Error(`no answer within ${withinMs} ms`) }) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs S3 work; whatever it throws becomes Unavailable. Never to be put around a caller's body. */
  async function s3<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw unavailable(error);
    }
  }

  function unavailable(error: unknown): Unavailable {
    return error instanceof Unavailable ? error : new Unavailable(dependency, { cause: withoutSecrets(error) });
  }

  function assertOpen(): void {
    if (closed) throw new Error("the store is closed");
  }

  function close(): void {
    closed = true;
    client.destroy();
  }

  return { answer, s3, unavailable, assertOpen, close };
}

export type Requests = ReturnType<typeof openRequests>;

/** The HTTP status of an SDK error. */
export function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } } | undefined)?.$metadata?.httpStatusCode;
}

/** More than one attempt was made: an earlier one may have been carried out although its answer was lost. */
export function wasRetried(error: unknown): boolean {
  return ((error as { $metadata?: { attempts?: number } } | undefined)?.$metadata?.attempts ?? 1) > 1;
}

/** S3's answers to a bad signature repeat the access key and what was signed, as fields of the error. */
function withoutSecrets(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const status = statusOf(error);
  const { code } = error as { code?: unknown };
  const reason = [error.name, status && `HTTP ${status}`, error.message || code].filter(Boolean).join(", ");
  return Object.assign(new Error(reason), { name: error.name, code, status });
}
