import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";
import { ask, connectRaw, expectRefusal, inboxOf } from "./raw.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024", MAX_CONCURRENT_UPLOADS: "16" });
});
afterEach(async () => {
  await eventually(() => world.site.underWay(), { uploads: 0, memoryBytes: 0 });
  await world.close();
});

const CHUNKED = "PUT /api/upload/a.bin HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
const HELLO = "PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";

/** Sends it again and again until the connection is gone. @returns how many bytes went */
async function flood(connection: ReturnType<typeof connectRaw>, bytes: string, most: number): Promise<number> {
  let sent = 0;
  while (sent < most && (await connection.send(bytes))) sent += bytes.length;
  return sent;
}

describe("what never ends is ended", () => {
  test.each([
    ["a chunk's extension, of a small upload", `${CHUNKED}5;`, "a".repeat(1_000), "MALFORMED_REQUEST"],
    ["a chunk's extension, in the middle of a large one", `${CHUNKED}1388\r\n${"x".repeat(5_000)}\r\n5;`, "a".repeat(1_000), "MALFORMED_REQUEST"],
    ["trailers", `${CHUNKED}5\r\nhello\r\n0\r\n`, `X-Trailer: ${"a".repeat(1_000)}\r\n`, "HEADERS_TOO_LARGE"],
    ["one trailer", `${CHUNKED}5\r\nhello\r\n0\r\nX-Trailer: `, "a".repeat(1_000), "HEADERS_TOO_LARGE"],
  ] as const)("%s", async (_what, head, more, code) => {
    const connection = connectRaw(world.url);
    await connection.send(head);
    const flooding = flood(connection, more, 100_000_000);
    expectRefusal(await connection.answer(), code);
    await connection.closed;
    expect(await flooding).toBeLessThan(20_000_000); // what the kernels hold on the way, and what is thrown away so that the answer arrives
    await eventually(() => inboxOf(world), []);
  });

  test("a chunk's size, and chunks that are nearly all extension, though they bring more bytes than an honest upload", async () => {
    await world.close();
    world = await openWorld({ UPLOAD_IDLE_SECONDS: "1", UPLOAD_MIN_BYTES_PER_SECOND: "100000" });
    const floods = [[`${CHUNKED}0`, "0".repeat(10_000)], [CHUNKED, `1;${"a".repeat(10_000)}\r\nx\r\n`]] as const;
    await Promise.all(floods.map(async ([head, more]) => {
      const connection = connectRaw(world.url);
      await connection.send(head);
      const flooding = setInterval(() => void connection.send(more), 5); // 2 MB a second
      expectRefusal(await connection.answer(), "REQUEST_TIMEOUT");
      clearInterval(flooding);
      await connection.closed;
    }));
  });

  test("and extensions that are just short enough cost nobody's memory", async () => {
    const connection = connectRaw(world.url);
    await connection.send(CHUNKED);
    const chunk = `1;${"a".repeat(10_000)}\r\nx\r\n`;
    const sent = await flood(connection, chunk, 30_000_000);
    expect(world.site.underWay().uploads).toBe(1);
    await connection.send("0\r\n\r\n");
    const answer = await connection.answer();
    expect([answer.status, JSON.parse(answer.text).size]).toEqual([202, sent / chunk.length]);
    connection.close();
    await world.settleAll();
  });
});

describe("an upload passes within a second beside", () => {
  async function expectQuick(): Promise<void> {
    let quickestMs = Infinity;
    for (let round = 0; round < 3 && quickestMs >= 1_000; round++) { // what stands in the way does so each time: headers have ten seconds, bodies thirty
      const startedAt = performance.now();
      expect((await ask(world.url, HELLO, "PUT", { from: "127.0.0.2" })).status).toBe(202);
      quickestMs = Math.min(quickestMs, performance.now() - startedAt);
    }
    expect(quickestMs).toBeLessThan(1_000);
  }

  test("hundreds of connections whose headers never end", async () => {
    const connections = await Promise.all(Array.from({ length: 400 }, async (_, i) => {
      const connection = connectRaw(world.url);
      await connection.send(i % 2 ? "PUT /api/upl" : "PUT /api/upload/a.txt HTTP/1.1\r\nHost: x\r\nX-Slow: a");
      return connection;
    }));
    await expectQuick();
    for (const connection of connections) connection.close();
  });

  test("bodies that never come, from one address", async () => {
    const connections = Array.from({ length: 100 }, () => connectRaw(world.url));
    const answers = connections.map(async (connection) => {
      await connection.send(HELLO.replace("hello", "").replace("Host", "Expect: 100-continue\r\nHost"));
      return (await connection.answer()).status;
    });
    const statuses = await Promise.all(answers);
    expect([statuses.filter((status) => status === 100).length, statuses.filter((status) => status === 503).length]).toEqual([8, 92]);
    await expectQuick();
    for (const connection of connections) connection.close();
  });
});
