import net from "node:net";

export interface Faults {
  /** Connections are reset, new ones too. */
  down?: boolean;
  /** Bytes vanish; connections stay. */
  blackhole?: boolean;
}

/** A TCP proxy in between two peers that can be told to fail. */
export async function openFaultProxy(target: { host: string; port: number }) {
  let faults: Faults = {};
  const sockets = new Set<net.Socket>();
  const server = net.createServer((near) => {
    if (faults.down) return near.resetAndDestroy();
    const far = net.connect(target);
    for (const [from, to] of [[near, far], [far, near]] as const) {
      sockets.add(from);
      from.on("data", (chunk) => {
        if (faults.blackhole || to.destroyed) return;
        if (!to.write(chunk)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
      });
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    set(next: Faults) {
      faults = next;
      if (next.down) for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The same URL through a fault proxy. */
export async function throughFaultProxy(url: string) {
  const target = new URL(url);
  const proxy = await openFaultProxy({ host: target.hostname, port: Number(target.port) });
  target.host = `127.0.0.1:${proxy.port}`;
  return { ...proxy, url: target.href };
}
