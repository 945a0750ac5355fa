import { request, type IncomingMessage } from "node:http";

/** A message as it came: `data` is what its JSON says. */
export interface Told {
  id: string;
  event: string;
  data: any;
}

/** Opens a stream of server-sent events and keeps what comes; nothing is read as long as it is paused. */
export async function openEvents(url: string, { headers = {}, paused = false }: { headers?: Record<string, string>; paused?: boolean } = {}) {
  const told: Told[] = [];
  let comments = 0;
  let retryMs: number | undefined;
  let isOpen = true;
  const req = request(url, { headers, agent: false });
  const response = await new Promise<IncomingMessage>((resolve, reject) => req.once("response", resolve).once("error", reject).end());
  req.on("error", () => {});
  const whenClosed = new Promise<void>((resolve) => response.once("close", () => {
    isOpen = false;
    resolve();
  }));
  response.on("error", () => {});
  let rest = "";
  if (!paused) response.setEncoding("utf8").on("data", (text: string) => {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trimStart()]));
      if (fields.has("")) comments++;
      if (fields.has("retry")) retryMs = Number(fields.get("retry"));
      if (fields.has("data")) told.push({ id: fields.get("id") ?? "", event: fields.get("event") ?? "message", data: JSON.parse(fields.get("data")!) });
    }
  });
  return {
    status: response.statusCode!, headers: response.headers, told, whenClosed, response,
    last: (event: string) => told.findLast((message) => message.event === event),
    comments: () => comments,
    retryMs: () => retryMs,
    isOpen: () => isOpen,
    close() {
      req.destroy();
      return whenClosed;
    },
  };
}
