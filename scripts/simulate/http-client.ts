import { Agent as HttpAgent, request as requestHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";

export interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  /** At most 64 KiB of it. */
  text: string;
}

export interface Request {
  method: string;
  /** Below the target's address. */
  path: string;
  headers?: Record<string, string | number>;
  /** Writes the body and ends the request. None: there is no body. */
  send?: (request: ClientRequest) => void;
  signal?: AbortSignal | undefined;
}

/** Nothing came in time. */
export class TookTooLong extends Error {
  override readonly name = "TookTooLong";
}

const MOST_TEXT = 65_536;
/** RFC 9110 lets a client go on when nothing is said; so proxies that do not know the word cost no more than this. */
const CONTINUE_AFTER_MS = 1000;

export type HttpClient = ReturnType<typeof createHttpClient>;

/** Keep-alive connections to one site, never more than `sockets`; further requests wait for one, and their clock runs. */
export function createHttpClient({ target, sockets, timeoutMs }: { target: string; sockets: number; timeoutMs: number }) {
  const isHttps = target.startsWith("https:");
  const agent = new (isHttps ? HttpsAgent : HttpAgent)({ keepAlive: true, maxSockets: sockets, maxFreeSockets: sockets, scheduling: "fifo" });
  const open = isHttps ? requestHttps : requestHttp;

  return {
    /** @throws TookTooLong; Error of the connection; AbortError */
    ask({ method, path, headers = {}, send, signal }: Request): Promise<Answer> {
      return new Promise((resolve, reject) => {
        const request = open(target + path, { method, headers, agent, ...(signal && { signal }) });
        let late: TookTooLong | undefined;
        const timer = setTimeout(() => request.destroy(late = new TookTooLong(`there was no answer within ${timeoutMs / 1000} s`)), timeoutMs);
        const settle = (end: () => void) => {
          clearTimeout(timer);
          end();
        };
        let answered = false;
        request.on("error", (error) => { if (!answered) settle(() => reject(error)); });
        request.on("response", (response) => {
          answered = true;
          let text = "";
          response.setEncoding("utf8");
          response.on("data", (piece: string) => { if (text.length < MOST_TEXT) text += piece; });
          response.on("end", () => settle(() => resolve({ status: response.statusCode ?? 0, headers: response.headers, text })));
          response.on("error", (error) => settle(() => reject(late ?? error)));
          response.on("close", () => { if (!response.complete) settle(() => reject(new Error("the connection broke in the middle of the answer"))); });
        });
        if (!send) request.end();
        else if (headers["Expect"] === undefined) send(request);
        else whenWelcome(request, send);
      });
    },
    close: () => agent.destroy(),
  };
}

/** Whoever is refused hears it before the first byte of the body. */
function whenWelcome(request: ClientRequest, send: (request: ClientRequest) => void): void {
  let begun = false;
  const begin = () => {
    clearTimeout(timer);
    if (begun || request.destroyed) return;
    begun = true;
    send(request);
  };
  const timer = setTimeout(begin, CONTINUE_AFTER_MS);
  request.once("continue", begin);
  request.once("response", (response) => {
    clearTimeout(timer);
    // Refused: its body is not wanted, and a connection with half a request cannot be used again.
    response.once("end", () => { if (!begun) request.destroy(); });
  });
  request.once("error", () => clearTimeout(timer));
  request.flushHeaders();
}
