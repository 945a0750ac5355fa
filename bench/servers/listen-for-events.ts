import type { ServerResponse } from "node:http";
import { listen } from "./listen.ts";

const ACCEPTED = '{"status":"accepted"}';
const HEADERS = { "Content-Type": "application/json", "Content-Length": ACCEPTED.length };

/** Answers as ConnectStorm does when `keep` has kept the event. The only check is that there is a site. */
export function listenForEvents(keep: (event: Record<string, unknown>) => Promise<void>): void {
  listen((req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => void take(chunks, res));
  });

  async function take(chunks: Buffer[], res: ServerResponse): Promise<void> {
    try {
      const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
      const event = JSON.parse(bytes.toString()) as Record<string, unknown>;
      if (typeof event["site_id"] !== "string") throw new Error("site_id required");
      await keep(event);
      res.writeHead(202, HEADERS).end(ACCEPTED);
    } catch (error) {
      res.writeHead(500).end(String(error));
    }
  }
}
