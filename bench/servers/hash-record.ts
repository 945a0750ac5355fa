/**
 * The limit with an embedded store: raw node:http, sha256, one LMDB record created if absent, flushed, answer.
 * Keys go up, as a UUIDv7 does. For small bodies only: they are held whole.
 */
import { hash } from "node:crypto";
import { open } from "lmdb";
import { folder, listen } from "./listen.ts";

const MAP_BYTES = 64 * 1024 ** 3; // of address space, not of disk
const store = open<Uint8Array, number>({ path: folder(), encoding: "binary", mapSize: MAP_BYTES });
let records = 0;

listen((req, res) => {
  const chunks: Buffer[] = [];
  req.on("data", (chunk: Buffer) => chunks.push(chunk));
  req.on("end", () => {
    const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
    const sha256 = hash("sha256", bytes);
    keep(bytes).then(
      () => {
        const body = `{"size":${bytes.length},"sha256":"${sha256}"}`;
        res.writeHead(202, { "Content-Type": "application/json", "Content-Length": body.length });
        res.end(body);
      },
      (error: unknown) => {
        res.statusCode = 500;
        res.end(String(error));
      },
    );
  });
});

async function keep(bytes: Buffer): Promise<void> {
  const key = records++;
  const created = await store.ifNoExists(key, () => void store.put(key, bytes));
  if (!created) throw new Error("the key was taken");
  await store.flushed;
}
