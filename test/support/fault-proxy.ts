import net from "node:net";

export interface Faults {
  /** Connections are reset, new ones too. */
  down?: boolean;
  /** Bytes vanish; connections stay. When it ends, those that lost bytes are reset: nobody could go on in the middle. */
  blackhole?: boolean;
  /** Every byte arrives so much later, in each direction, in the order sent. */
  latencyMs?: number;
  /** Of each connection, in each direction. */
  bytesPerSecond?: number;
  /** A connection is reset once it has passed on so many bytes from the server, counted from when this was set. */
  cutAfterBytes?: number;
}

/** What may wait in the proxy of one direction; more stays with the sender, as on a real line. */
const MOST_WAITING_BYTES = 1024 * 1024;
/** A slow line passes on a little at a time, and is slow or fast again within this. */
const SLICE_MS = 50;

/** libuv takes a reset that it finds together with the last bytes for an orderly end. */
const CUT_AFTER_MS = 20;

interface Connection {
  near: net.Socket;
  far: net.Socket;
  fromServerBytes: number;
  hasLost: boolean;
}

/** A TCP proxy in between two peers that can be told to fail; new faults apply to the connections there are. */
export async function openFaultProxy(target: { host: string; port: number }) {
  let faults: Faults = {};
  const connections = new Set<Connection>();
  const wakes = new Set<() => void>();

  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    near.on("error", () => {}); // what a reset does is told by "close"
    if (faults.down) return near.resetAndDestroy();
    const far = net.connect({ ...target, allowHalfOpen: true, noDelay: true });
    const connection = { near, far, fromServerBytes: 0, hasLost: false };
    connections.add(connection);
    carry(connection, near, far);
    carry(connection, far, near);
  });

  /** One direction: what arrives waits for its time, is passed on in order, and then the end is. */
  function carry(connection: Connection, from: net.Socket, to: net.Socket): void {
    const waiting: { bytes: Buffer; arrivedAt: number }[] = [];
    let waitingBytes = 0, hasEnded = false, isPassingOn = false;

    async function passOn(): Promise<void> {
      if (isPassingOn) return;
      isPassingOn = true;
      for (let next = waiting[0]; next && !to.destroyed; next = waiting[0]) {
        const early = next.arrivedAt + (faults.latencyMs ?? 0) - performance.now();
        if (early > 0) {
          await pause(early); // or until the faults change: then look again
          continue;
        }
        const rate = faults.bytesPerSecond;
        const bytes = rate ? next.bytes.subarray(0, Math.max(1, Math.floor((rate * SLICE_MS) / 1000))) : next.bytes;
        next.bytes = next.bytes.subarray(bytes.length);
        if (next.bytes.length === 0) waiting.shift();
        waitingBytes -= bytes.length;
        if (faults.blackhole) connection.hasLost = true;
        else await write(connection, bytes, to);
        if (rate) await pause((bytes.length / rate) * 1000);
        if (waitingBytes < MOST_WAITING_BYTES) from.resume();
      }
      isPassingOn = false;
      if (hasEnded && waiting.length === 0) to.end();
    }

    from.on("data", (bytes) => {
      waiting.push({ bytes, arrivedAt: performance.now() });
      waitingBytes += bytes.length;
      if (waitingBytes >= MOST_WAITING_BYTES) from.pause();
      void passOn();
    });
    from.on("end", () => {
      hasEnded = true;
      void passOn();
    });
    from.on("error", () => {});
    from.on("close", (hadError) => {
      if (hadError || !hasEnded) reset(connection);
      if (connection.near.destroyed && connection.far.destroyed) connections.delete(connection);
    });
  }

  /** Resolves when the system has the bytes, so that a reset after it does not overtake them. */
  async function write(connection: Connection, bytes: Buffer, to: net.Socket): Promise<void> {
    const left = to === connection.near && faults.cutAfterBytes !== undefined ? faults.cutAfterBytes - connection.fromServerBytes : Infinity;
    if (to === connection.near) connection.fromServerBytes += bytes.length;
    await new Promise<unknown>((resolve) => to.write(bytes.subarray(0, left), resolve));
    if (bytes.length < left) return;
    await pause(CUT_AFTER_MS);
    reset(connection);
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(wake, ms);
      wakes.add(wake);
      function wake() {
        clearTimeout(timer);
        wakes.delete(wake);
        resolve();
      }
    });
  }

  function set(next: Faults): void {
    const healed = faults.blackhole && !next.blackhole;
    faults = next;
    for (const connection of connections) {
      connection.fromServerBytes = 0;
      if (next.down || (healed && connection.hasLost)) reset(connection);
    }
    for (const wake of wakes) wake();
  }

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    set,
    connections: () => connections.size,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      set({ down: true });
      await closed;
    },
  };
}

function reset({ near, far }: Connection): void {
  for (const socket of [near, far]) if (!socket.destroyed) socket.resetAndDestroy();
}

/** The same URL through a fault proxy. */
export async function throughFaultProxy(url: string) {
  const target = new URL(url);
  const proxy = await openFaultProxy({ host: target.hostname, port: Number(target.port) });
  target.host = `127.0.0.1:${proxy.port}`;
  return { ...proxy, url: target.href };
}
