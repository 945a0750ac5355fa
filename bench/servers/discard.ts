/** Raw node:http that throws the body away: what the machine, HTTP and the load generator themselves allow. */
import { listen } from "./listen.ts";

listen((req, res) => {
  let sizeBytes = 0;
  req.on("data", (chunk: Buffer) => {
    sizeBytes += chunk.length;
  });
  req.on("end", () => {
    const body = `{"size":${sizeBytes}}`;
    res.writeHead(200, { "Content-Type": "application/json", "Content-Length": body.length });
    res.end(body);
  });
});
