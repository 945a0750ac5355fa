import { createServer, type RequestListener, type Server } from "node:http";

/**
 * Listens on 127.0.0.1:$PORT until SIGTERM. GET is answered 200 and never reaches `handle`: the bench asks it
 * whether the server is up.
 */
export function listen(handle: RequestListener): Server {
  const server = createServer((req, res) => {
    if (req.method === "GET") res.end("up");
    else handle(req, res);
  });
  server.listen(Number(process.env["PORT"]), "127.0.0.1");
  process.on("SIGTERM", () => process.exit(0));
  return server;
}

/** The folder this server may write to; empty when it starts. */
export function folder(): string {
  const given = process.env["FOLDER"];
  if (given === undefined) throw new Error("FOLDER is not set");
  return given;
}
