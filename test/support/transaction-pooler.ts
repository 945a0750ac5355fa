import net, { type AddressInfo } from "node:net";
import pg from "pg";

/** As frontends and backends send it, once they have met: a letter, the length without it, and what it says. */
const HEAD_BYTES = 5;
const READY = "Z".charCodeAt(0), SYNC = "S".charCodeAt(0), QUERY = "Q".charCodeAt(0), TERMINATE = "X".charCodeAt(0);
const IDLE = "I".charCodeAt(0);

interface Backend {
  socket: net.Socket;
  onData?: (bytes: Buffer) => void;
}

/**
 * A stand-in for a pooler in transaction mode, such as PgBouncer: each transaction is on another of its connections to the
 * server, in turn, as long as there are others, and what a client asks for as it connects is ignored.
 * @param connections  to the server, all of them open from the start; whoever finds none free waits
 */
export async function openTransactionPooler(uri: string, { connections = 3 }: { connections?: number } = {}) {
  const clients = await Promise.all(Array.from({ length: connections }, async () => {
    const client = new pg.Client({ connectionString: uri, application_name: "pooler" });
    await client.connect();
    return client;
  }));
  const free = clients.map((client) => {
    const { stream: socket } = (client as unknown as { connection: { stream: net.Socket } }).connection;
    const backend: Backend = { socket };
    socket.removeAllListeners().on("error", () => {}).on("data", (bytes) => backend.onData?.(bytes)); // ours from now on
    return backend;
  });
  const backends = [...free];
  const waiting: ((backend: Backend) => void)[] = [];
  const fronts = new Set<net.Socket>();

  const take = async (): Promise<Backend> => free.shift() ?? new Promise((resolve) => waiting.push(resolve));
  const give = (backend: Backend) => void (waiting.shift()?.(backend) ?? free.push(backend));

  const server = net.createServer((front) => {
    fronts.add(front);
    front.on("error", () => {}).once("close", () => fronts.delete(front));
    front.once("data", () => {
      front.write(welcome());
      front.on("data", messages((type, message) => void onMessage(type, message)));
    });
    let mine: Backend | undefined;
    let asked: Buffer[] = [];

    /** One at a time: none comes while an answer is outstanding, as our clients do not pipeline. */
    async function onMessage(type: number, message: Buffer): Promise<void> {
      if (type === TERMINATE) return void front.end();
      asked.push(message);
      if (type !== SYNC && type !== QUERY) return;
      const request = Buffer.concat(asked);
      asked = [];
      const backend = (mine ??= await take());
      const onAnswer = messages((answer, whole) => {
        if (answer !== READY || whole[HEAD_BYTES] !== IDLE) return;
        mine = undefined;
        backend.onData = undefined;
        setImmediate(give, backend);
      });
      backend.onData = (bytes) => {
        front.write(bytes);
        onAnswer(bytes);
      };
      backend.socket.write(request);
    }

    // What a client leaves in the middle of a transaction is rolled back.
    front.once("close", () => {
      if (!mine) return;
      const backend = mine;
      backend.onData = messages((type) => type === READY && give(backend));
      backend.socket.write(Buffer.from("Q\0\0\0\x0drollback\0", "latin1"));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(uri);
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  return {
    uri: url.href,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const front of fronts) front.destroy();
      for (const { socket } of backends) socket.destroy();
      await closed;
    },
  };
}

/** AuthenticationOk, BackendKeyData of its own invention, ReadyForQuery. */
function welcome(): Buffer {
  const key = Buffer.alloc(13, "K");
  key.writeUInt32BE(12, 1);
  key.writeUInt32BE(4_000_000, 5); // no process has this id
  return Buffer.concat([Buffer.from("R\0\0\0\x08\0\0\0\0", "latin1"), key, Buffer.from("Z\0\0\0\x05I", "latin1")]);
}

/** Calls back once for each whole message. */
function messages(onMessage: (type: number, whole: Buffer) => void): (bytes: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= HEAD_BYTES && rest.length > rest.readUInt32BE(1)) {
      const whole = rest.subarray(0, 1 + rest.readUInt32BE(1));
      rest = rest.subarray(whole.length);
      onMessage(whole[0]!, whole);
    }
  };
}
