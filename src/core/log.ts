import { pino, type Logger } from "pino";

export type Log = Logger;

/**
 * One JSON object a line on standard output, written at once: an asynchronous destination loses its last lines
 * when the process ends. Messages are constant; what varies is in fields. Never tokens, file names or bodies.
 */
export function createLog(level: string, processName: string): Log {
  return pino({
    level,
    base: { process: processName },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: describeError },
  });
}

/** What is known of an error, with its causes; an S3 or pg error carries more fields, some of them private. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name, message, stack, cause } = error;
  const code = "code" in error ? error.code : undefined;
  return { name, code, message, stack, ...(cause === undefined ? {} : { cause: describeError(cause) }) };
}
