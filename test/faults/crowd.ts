import { createHash, randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

/** What a client wrote down when it got a 202. */
export interface Acknowledgement {
  id: string;
  sha256: string;
  sizeBytes: number;
  streamId: string | null;
}

export interface CrowdSettings {
  urls: string[];
  clients?: number;
  /** Sizes to choose from, in bytes. The default has those kept in a record and those kept as a file. */
  sizes?: number[];
  /** Pause between two uploads of a client, in milliseconds: 0 for as fast as it goes. The default keeps the door busy and leaves the cores to those that come back to life. */
  everyMs?: number;
  /** Share of uploads without an Idempotency-Key. Those may be stored although the client never heard of it. */
  keyless?: number;
  /** Share of uploads whose bytes were handed in before. */
  repeated?: number;
  /** An attempt without an answer for so long is given up and made again. */
  attemptTimeoutMs?: number;
}

const SIZES = [1, 900, 4_000, 60_000, 200_000, 300_000, 900_000];

export type Crowd = ReturnType<typeof openCrowd>;

/** Clients that hand in files as sane programs do: with an Idempotency-Key, again and again until there is a 202. */
export function openCrowd({ urls, clients = 8, sizes = SIZES, everyMs = 80, keyless = 0, repeated = 0.1, attemptTimeoutMs = 20_000 }: CrowdSettings) {
  const acknowledged = new Map<string, Acknowledgement>();
  const answers: Record<string, number> = {};
  const refusals: string[] = [];
  let unknown = 0; // keyless uploads whose outcome nobody told
  let stopping = false;
  let slowestMs = 0;
  const bodies: Buffer[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const running = Array.from({ length: clients }, (_, index) => run(index));

  async function run(index: number): Promise<void> {
    for (let count = 0; !stopping; count++) {
      await handIn(`client-${index}-${count}`, index + count);
      if (everyMs > 0) await pause(everyMs * (0.5 + Math.random()));
    }
  }

  async function handIn(name: string, turn: number): Promise<void> {
    const body = takeBody();
    const sha256 = createHash("sha256").update(body).digest("hex");
    const key = Math.random() < keyless ? undefined : `${name}-${randomBytes(8).toString("hex")}`;
    for (let attempt = 1; ; attempt++) {
      const startedAt = performance.now();
      const answer = await send(urls[(turn + attempt) % urls.length]!, { name, body, key, asForm: turn % 3 === 0 });
      slowestMs = Math.max(slowestMs, performance.now() - startedAt);
      answers[answer.status] = (answers[answer.status] ?? 0) + 1;
      if (answer.status === 202) {
        const receipt = JSON.parse(answer.text) as { file_id: string; sha256: string; size: number; stream_id: string | null };
        if (receipt.sha256 !== sha256 || receipt.size !== body.length) refusals.push(`the receipt of ${name} is of other bytes: ${answer.text}`);
        acknowledged.set(receipt.file_id, { id: receipt.file_id, sha256, sizeBytes: body.length, streamId: receipt.stream_id });
        return;
      }
      if (key === undefined && (answer.status === 0 || answer.status >= 500)) unknown++;
      if (answer.status !== 0 && answer.status < 500 && answer.status !== 429 && answer.status !== 408) {
        refusals.push(`${name} was answered ${answer.status}: ${answer.text}`);
        return;
      }
      await pause(Math.min(50 * attempt, 500) * (0.5 + Math.random()));
    }
  }

  function takeBody(): Buffer {
    if (bodies.length > 0 && Math.random() < repeated) return bodies[Math.floor(Math.random() * bodies.length)]!;
    const body = randomBytes(sizes[Math.floor(Math.random() * sizes.length)]!);
    if (bodies.length < 20) bodies.push(body);
    return body;
  }

  /** Status 0: no answer came. */
  function send(url: string, { name, body, key, asForm }: { name: string; body: Buffer; key: string | undefined; asForm: boolean }): Promise<{ status: number; text: string }> {
    const boundary = "the-boundary-of-this-form";
    const payload = asForm
      ? Buffer.concat([Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${name}.bin"\r\n\r\n`), body, Buffer.from(`\r\n--${boundary}--\r\n`)])
      : body;
    return new Promise((resolve) => {
      const sent = request(asForm ? `${url}/api/upload` : `${url}/api/upload/${name}.bin`, {
        method: asForm ? "POST" : "PUT", agent, timeout: attemptTimeoutMs,
        headers: {
          "Content-Length": payload.length, ...(asForm && { "Content-Type": `multipart/form-data; boundary=${boundary}` }),
          ...(key !== undefined && { "Idempotency-Key": key }),
        },
      }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve({ status: response.complete ? response.statusCode! : 0, text }));
        response.on("error", () => resolve({ status: 0, text: "" }));
        response.on("close", () => resolve({ status: 0, text: "" }));
      });
      sent.on("timeout", () => sent.destroy());
      sent.on("error", () => resolve({ status: 0, text: "" }));
      sent.end(payload);
    });
  }

  return {
    acknowledged, answers,
    refusals: () => refusals,
    unknown: () => unknown,
    slowestMs: () => slowestMs,
    /** Resolves once so many more were acknowledged. */
    async more(count: number, withinMs = 30_000): Promise<void> {
      const goal = acknowledged.size + count;
      const deadline = Date.now() + withinMs;
      while (acknowledged.size < goal) {
        if (Date.now() > deadline) throw new Error(`only ${acknowledged.size} of ${goal} uploads were acknowledged within ${withinMs} ms; answers: ${JSON.stringify(answers)}`);
        await pause(20);
      }
    },
    /** Every client finishes the upload it is at, however often it has to be sent. */
    async stop(): Promise<void> {
      stopping = true;
      await Promise.all(running);
      agent.destroy();
    },
  };
}
