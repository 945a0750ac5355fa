// A process of its own on a disk store. Arguments: the module that `compile` made, folder, smallObjectBytes, job.
import { createHash, randomUUID } from "node:crypto";
import { join } from "node:path";

const [module, folder, smallObjectBytes, job] = process.argv.slice(2);
const { openDiskStore } = await import(module);
const store = await openDiskStore({ folder, dependency: "inbox", smallObjectBytes: Number(smallObjectBytes) });

/** Bytes that can be told right or wrong by their key alone. */
function bytesOf(key) {
  const seed = createHash("sha256").update(key).digest();
  return Buffer.alloc(Number(key.split("/")[1]), seed);
}

async function* inPieces(bytes) {
  for (let at = 0; at < bytes.length; at += 10_000) yield bytes.subarray(at, at + 10_000);
}

const jobs = {
  /** 32 puts at a time, every fourth of them large and streamed; tells of each one when it is acknowledged. */
  async flood() {
    const sizes = [1_024, 100, 8_000, 200_000];
    await Promise.all(Array.from({ length: 32 }, async (_, i) => {
      for (;;) {
        const size = sizes[i % sizes.length];
        const key = `flood/${size}/${randomUUID()}`;
        await store.put(key, size > 100_000 ? inPieces(bytesOf(key)) : bytesOf(key), { ifAbsent: true });
        process.send(key);
      }
    }));
  },
  /** One put after another, small and large in turn; tells how each one ended. */
  async report() {
    for (let i = 0; i < 40; i += 1) {
      const key = `report/${i % 2 ? 200_000 : 1_000}/${i}`;
      const error = await store.put(key, i % 2 ? inPieces(bytesOf(key)) : bytesOf(key), { ifAbsent: true }).then(() => undefined, (e) => e);
      console.log(JSON.stringify({ key, error: error && { name: error.name, message: error.message, full: error.full } }));
    }
    await store.close();
  },
  /** One put at a time, until it is told to end; tells of each one when it is acknowledged. */
  async trickle() {
    let going = true;
    process.once("message", () => (going = false));
    for (let i = 0; going; i += 1) {
      await store.put(`trickle/${i}`, Buffer.from("x"), { ifAbsent: true });
      process.send(`trickle/${i}`);
      await new Promise((resolve) => setTimeout(resolve, 2)); // a commit that is under way would set the number right again
    }
    await store.close();
    process.disconnect();
  },
  /** Opens the store, and no more. */
  async look() {
    await store.close();
  },
  /** Keeps the index's write lock for two seconds, as a process that was stopped in a transaction would. */
  async hold() {
    await store.close(); // twice in one process is not to be
    const { open } = await import("lmdb");
    const index = open(join(folder, "index"), { noSubdir: false, encoding: "binary", keyEncoding: "binary", overlappingSync: false });
    index.transactionSync(() => {
      process.send("held");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);
    });
    process.disconnect();
  },
  /** Does what it is told, one message at a time. */
  async obey() {
    process.on("message", async ({ method, args }) => {
      const result = await store[method](...args);
      process.send({ result: result instanceof Uint8Array ? Buffer.from(result).toString() : (result ?? null) });
    });
    process.send({ result: "ready" });
  },
};
await jobs[job]();
