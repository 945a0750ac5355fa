/**
 * Reads HTTP/1.1 answers off a socket, one at a time (nothing is pipelined), as cheaply as can be:
 * the load generator must not be what is measured. Knows Content-Length, chunked bodies, and answers without a body.
 */
export interface Answer {
  status: number;
  /** The head and the body as they came; a chunked body still has its chunk lines in it. */
  bytes: Buffer;
  bodyStart: number;
  /** The server will close the connection after this answer. */
  closes: boolean;
}

const HEAD_END = "\r\n\r\n";
const LENGTH = /\r\ncontent-length:[ \t]*(\d+)/i;
const CHUNKED = /\r\ntransfer-encoding:[ \t]*chunked/i;
const CLOSE = /\r\nconnection:[ \t]*close/i;
const MAX_HEAD_BYTES = 65_536; // a server that never ends its head is an error, not a reason to gather for ever

export class AnswerReader {
  #pending: Buffer | undefined;

  /**
   * Takes what the socket gave; returns the answer when it is whole. `bytes` may be reused by the caller afterwards:
   * what must be kept is copied.
   * @throws Error when it is not HTTP, or when there is more than one answer
   */
  read(bytes: Buffer): Answer | undefined {
    const all = this.#pending === undefined ? bytes : Buffer.concat([this.#pending, bytes]);
    const answer = parseAnswer(all);
    if (answer !== undefined) this.#pending = undefined;
    else this.#pending = this.#pending === undefined ? Buffer.from(bytes) : all;
    return answer;
  }

  /** Forgets half an answer: the connection it came on is gone. */
  reset(): void {
    this.#pending = undefined;
  }
}

/** Undefined: not whole yet. */
function parseAnswer(bytes: Buffer): Answer | undefined {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) {
    if (bytes.length > MAX_HEAD_BYTES) throw new Error("the head of the answer does not end");
    return undefined;
  }
  const head = bytes.toString("latin1", 0, headEnd);
  const status = Number(head.slice(9, 12));
  if (!head.startsWith("HTTP/1.") || !(status >= 200 && status <= 599)) {
    throw new Error(`not an answer: ${JSON.stringify(head.slice(0, 40))}`);
  }
  const bodyStart = headEnd + HEAD_END.length;
  const bodyEnd = endOfBody(bytes, bodyStart, head, status);
  if (bodyEnd === undefined || bodyEnd > bytes.length) return undefined;
  if (bodyEnd < bytes.length) throw new Error("more bytes than the answer has");
  return { status, bytes, bodyStart, closes: CLOSE.test(head) };
}

function endOfBody(bytes: Buffer, bodyStart: number, head: string, status: number): number | undefined {
  if (status === 204 || status === 304) return bodyStart;
  const length = LENGTH.exec(head);
  if (length !== null) return bodyStart + Number(length[1]);
  if (CHUNKED.test(head)) return endOfChunks(bytes, bodyStart);
  throw new Error("the answer has neither a length nor chunks");
}

function endOfChunks(bytes: Buffer, bodyStart: number): number | undefined {
  let at = bodyStart;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    if (!(size >= 0)) throw new Error("a chunk without a size");
    at = lineEnd + 2;
    if (size === 0) return endOfTrailers(bytes, at);
    at += size + 2;
    if (at > bytes.length) return undefined;
  }
}

function endOfTrailers(bytes: Buffer, start: number): number | undefined {
  if (bytes.length < start + 2) return undefined;
  if (bytes[start] === 0x0d && bytes[start + 1] === 0x0a) return start + 2;
  const end = bytes.indexOf(HEAD_END, start);
  return end < 0 ? undefined : end + HEAD_END.length;
}
