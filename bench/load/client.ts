import { connect, type Socket } from "node:net";
import type { Expectation } from "./job.ts";
import { takeFiller, type PreparedRequest } from "./request.ts";
import { AnswerReader, type Answer } from "./response.ts";

const READ_BUFFER_BYTES = 65_536;
const PIECES_IN_FLIGHT = 2; // one on its way, one ready: the socket never idles, nothing piles up
/** Of silence from the server. Durable 1 GiB bodies may take a while after their last byte. */
const GIVE_UP_AFTER_MS = 120_000;

export interface Client {
  /**
   * Sends the request and waits for its answer; then calls `done`, with a reason when it was not the one expected.
   * One request at a time. Callbacks, because a promise for each request costs a tenth of the whole.
   */
  send(request: PreparedRequest, done: (failure?: string) => void): void;
  close(): void;
}

/** One keep-alive connection that is opened again when the server closes it. */
export function openClient(port: number, expect: Expectation): Client {
  const reader = new AnswerReader();
  const readBuffer = Buffer.allocUnsafe(READ_BUFFER_BYTES);
  const expectedText = expect.text === undefined ? undefined : Buffer.from(expect.text, "latin1");
  let socket: Socket | undefined;
  let waiting: ((failure?: string) => void) | undefined;
  let bodySent = true;

  function settle(failure?: string): void {
    const done = waiting;
    waiting = undefined;
    if (failure !== undefined) drop();
    done?.(failure);
  }

  function drop(): void {
    const dropped = socket;
    socket = undefined;
    reader.reset();
    dropped?.destroy();
  }

  function judge(answer: Answer): string | undefined {
    if (answer.status !== expect.status) return `status ${answer.status}: ${excerpt(answer)}`;
    if (!bodySent) return "answered before the body was sent";
    if (expectedText !== undefined && !answer.bytes.includes(expectedText)) {
      return `the answer lacks ${expect.text}: ${excerpt(answer)}`;
    }
    return undefined;
  }

  function open(): Socket {
    const opened: Socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: readBuffer,
        callback(count: number, bytes: Uint8Array): boolean {
          if (opened !== socket) return false;
          try {
            const answer = reader.read(bytes.subarray(0, count) as Buffer);
            if (answer === undefined) return true;
            const failure = judge(answer);
            if (answer.closes) drop();
            settle(failure);
          } catch (error) {
            settle((error as Error).message);
          }
          return true;
        },
      },
    });
    opened.on("error", (error) => {
      if (opened === socket) settle(error.message);
    });
    opened.on("close", () => {
      if (opened === socket) settle("the server closed the connection");
    });
    opened.setTimeout(GIVE_UP_AFTER_MS, () => {
      if (opened === socket) settle("no answer");
    });
    return opened;
  }

  function sendPieces(to: Socket, request: PreparedRequest): void {
    let left = request.fillerBytes;
    const next = (): void => {
      if (to !== socket || left === 0) return;
      const piece = takeFiller(left);
      left -= piece.length;
      // After the next look at the socket: a server that refuses is heard before its closed door is run into.
      to.write(piece, () => setImmediate(next));
      if (left > 0) return;
      bodySent = true;
      if (request.last.length > 0) to.write(request.last);
    };
    for (let flight = 0; flight < PIECES_IN_FLIGHT; flight++) next();
  }

  return {
    send(request, done) {
      waiting = done;
      socket ??= open();
      request.stamp();
      bodySent = request.fillerBytes === 0;
      socket.write(request.first);
      if (!bodySent) sendPieces(socket, request);
    },
    close() {
      waiting = undefined;
      drop();
    },
  };
}

function excerpt(answer: Answer): string {
  return answer.bytes.toString("latin1", answer.bodyStart, answer.bodyStart + 200);
}
