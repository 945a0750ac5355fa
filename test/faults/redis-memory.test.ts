import { Agent, request } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { throughFaultProxy } from "../support/fault-proxy.ts";
import { findGrowth, footprintOf } from "../support/footprint.ts";
import { useProcesses } from "../support/processes.ts";
import type { Program } from "../support/program.ts";
import { servers } from "../support/servers.ts";

const WARM_UP = 500;
const AT_ONCE = 16;
const KIB = Buffer.alloc(1_024, "a");

const { world, start, startWeb } = useProcesses();
let redis: Awaited<ReturnType<typeof throughFaultProxy>>;
beforeEach(async () => {
  redis = await throughFaultProxy(servers.redisUrl());
});
afterEach(() => redis.close());

test("with Redis down, 5,000 uploads leave nothing behind in the memory of the web process, and all are settled when it is back", async () => {
  const web = await startWeb({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500" });
  const worker = start("worker", { REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500", CONSUMER_BATCH_SIZE: "500" });
  await worker.says(/settling/);
  redis.set({ down: true });
  await expectFlat(web, 5_000);
  expect(await world().ledger()).toBe(0);

  redis.set({});
  await eventually(() => world().ledger(), WARM_UP + 5_000, 60_000);
  await eventually(() => world().redis.xlen(world().stream), 0);
  const { store } = world().context.inbox;
  await eventually(async () => (await store.list("", { limit: 10 })).map(({ key }) => key).filter((key) => !key.startsWith("tallies/")), ["identity"]);
}, 120_000);

test("with a Redis that does not answer, uploads wait for it no longer than it takes to notice, and leave nothing behind either", async () => {
  const web = await startWeb({ REDIS_URL: redis.url, REDIS_TIMEOUT_MS: "500" });
  redis.set({ blackhole: true });
  await expectFlat(web, 2_000);
}, 60_000); // each for itself, half a second long, they would take longer

async function expectFlat(web: Program & { url: string }, uploads: number): Promise<void> {
  await uploadAll(web.url, WARM_UP);
  const before = footprintOf(web);
  await uploadAll(web.url, uploads);
  const { memoryKb } = footprintOf(web); // at once: what was queued, and is let go of later, was too much already
  await eventually(() => findGrowth(before, { memoryKb, descriptors: web.descriptors() }, { memoryKb: 40_000, descriptors: 5 }), []);
}

/** Each of them is a promise without a place in the queue. */
async function uploadAll(url: string, count: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  let next = 0;
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let i = next++; i < count; i = next++) {
      const { status, body } = await put(agent, `${url}/api/upload/${i}.bin`);
      expect(status).toBe(202);
      expect(JSON.parse(body)).toMatchObject({ stream_id: null });
    }
  }));
  agent.destroy();
}

function put(agent: Agent, url: string): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const sending = request(url, { method: "PUT", agent, headers: { "Content-Length": KIB.length } }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text)).on("end", () => resolve({ status: response.statusCode, body }));
    });
    sending.on("error", reject).end(KIB);
  });
}
