import { once } from "node:events";
import net from "node:net";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "./eventually.ts";
import { openFaultProxy, throughFaultProxy } from "./fault-proxy.ts";
import { servers } from "./servers.ts";

/** A server that sends back what it gets, or `sends` at once, and then ends with the client. */
async function listen(sends?: Buffer) {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    if (sends) socket.end(sends);
    else socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** A client that gathers what comes, and how it ended. */
function dial(port: number) {
  const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  const received: Buffer[] = [];
  let error: string | undefined;
  socket.on("data", (bytes) => received.push(bytes)).on("error", (cause: NodeJS.ErrnoException) => (error = cause.code));
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  return { socket, bytes: () => Buffer.concat(received), closed, error: () => error };
}

describe("a fault proxy", () => {
  let ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    ends = [];
  });

  async function open(sends?: Buffer) {
    const server = await listen(sends);
    const proxy = await openFaultProxy({ host: "127.0.0.1", port: server.port });
    ends.push(server.close, proxy.close);
    return { server, proxy, dial: () => dial(proxy.port) };
  }

  test("passes on everything in order, and the end of each side for itself", async () => {
    const { proxy, dial } = await open();
    const client = dial();
    const sent = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => i % 251));
    client.socket.end(sent);
    await client.closed;
    expect(client.bytes().equals(sent)).toBe(true);
    expect(client.error()).toBeUndefined();
    await eventually(proxy.connections, 0);
  });

  test("delays each direction without changing the order or the throughput", async () => {
    const { proxy, dial } = await open();
    proxy.set({ latencyMs: 100 });
    const client = dial();
    const sent = Buffer.from(Array.from({ length: 2_000_000 }, (_, i) => i % 241));
    const startedAt = performance.now();
    for (let at = 0; at < sent.length; at += 20_000) client.socket.write(sent.subarray(at, at + 20_000));
    client.socket.end();
    await once(client.socket, "data");
    expect(performance.now() - startedAt).toBeGreaterThan(195);
    await client.closed;
    expect(client.bytes().equals(sent)).toBe(true);
    expect(performance.now() - startedAt).toBeLessThan(2_500); // 100 pieces, one after the other, would take 10 s
  });

  test("slows a connection that is there already, and frees it again", async () => {
    const { proxy, dial } = await open();
    const client = dial();
    client.socket.write("x");
    await once(client.socket, "data");
    proxy.set({ bytesPerSecond: 20_000 });
    const startedAt = performance.now();
    client.socket.write(Buffer.alloc(10_000));
    await eventually(() => client.bytes().length, 10_001);
    expect(performance.now() - startedAt).toBeGreaterThan(400);
    client.socket.write(Buffer.alloc(200_000));
    await eventually(() => client.bytes().length > 12_000, true);
    expect(client.bytes().length).toBeLessThan(100_000);
    proxy.set({});
    await eventually(() => client.bytes().length, 210_001, 3_000);
  });

  test("resets a connection after so many bytes of the server, counted anew when the fault is set", async () => {
    const { proxy, dial } = await open(Buffer.alloc(500_000, "abc"));
    proxy.set({ cutAfterBytes: 12_345 });
    const client = dial();
    await client.closed;
    expect(client.error()).toBe("ECONNRESET");
    expect(client.bytes().length).toBe(12_345);

    const echo = await open();
    const other = echo.dial();
    other.socket.write(Buffer.alloc(5_000));
    await eventually(() => other.bytes().length, 5_000);
    echo.proxy.set({ cutAfterBytes: 2_000 });
    other.socket.write(Buffer.alloc(5_000));
    await other.closed;
    expect(other.error()).toBe("ECONNRESET");
    expect(other.bytes().length).toBe(7_000);
  });

  test("that is down resets what is open and what comes", async () => {
    const { proxy, dial } = await open();
    const client = dial();
    client.socket.write("x");
    await once(client.socket, "data");
    proxy.set({ down: true });
    await client.closed;
    expect(client.error()).toBe("ECONNRESET");
    const late = dial();
    await late.closed;
    expect(late.error()).toBe("ECONNRESET");
    proxy.set({});
    const back = dial();
    back.socket.write("y");
    await eventually(() => back.bytes().toString(), "y");
    back.socket.end();
    await back.closed;
  });

  test("that swallows bytes keeps connections, and resets those that lost some when it ends", async () => {
    const { proxy, dial } = await open();
    const [loser, idle] = [dial(), dial()];
    for (const client of [loser, idle]) {
      client.socket.write("x");
      await once(client.socket, "data");
    }
    proxy.set({ blackhole: true });
    loser.socket.write("lost");
    await new Promise((resolve) => setTimeout(resolve, 100)); // there is nothing to wait for when nothing comes
    expect([loser.bytes().toString(), loser.socket.destroyed]).toEqual(["x", false]);
    proxy.set({});
    await loser.closed;
    expect(loser.error()).toBe("ECONNRESET");
    idle.socket.write("y");
    await eventually(() => idle.bytes().toString(), "xy");
    idle.socket.end();
    await idle.closed;
  });

  test("resets its client where the server is not there", async () => {
    const { server, dial } = await open();
    server.close();
    const client = dial();
    await client.closed;
    expect(client.error()).toBe("ECONNRESET");
  });
});

describe("in front of Redis", () => {
  let proxy: Awaited<ReturnType<typeof throughFaultProxy>>;
  let redis: Redis;
  beforeEach(async () => {
    proxy = await throughFaultProxy(servers.redisUrl());
    redis = new Redis(proxy.url, { retryStrategy: () => 20, maxRetriesPerRequest: 0 });
    redis.on("error", () => {});
  });
  afterEach(async () => {
    redis.disconnect();
    await proxy.close();
  });

  test("commands take two latencies, and go on after a cut", async () => {
    await redis.ping();
    proxy.set({ latencyMs: 60 });
    const startedAt = performance.now();
    expect(await redis.ping()).toBe("PONG");
    expect(performance.now() - startedAt).toBeGreaterThan(118);
    proxy.set({ cutAfterBytes: 3 });
    await expect(redis.ping()).rejects.toThrow();
    proxy.set({});
    await eventually(() => redis.ping(), "PONG");
  });
});
