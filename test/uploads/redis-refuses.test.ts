import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createEnqueue } from "../../src/uploads/enqueue.ts";
import type { Log } from "../../src/core/log.ts";
import type { Manifest } from "../../src/uploads/messages.ts";
import { fetch } from "../support/fetch.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => void (world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "1000" })));
afterEach(() => world.close());

async function expectAccepted(response: Response): Promise<void> {
  expect([response.status, (await response.json() as { stream_id: string | null }).stream_id]).toEqual([202, null]);
}

test("an upload is accepted whatever Redis says to its note, by every door, with a key and without", async () => {
  await world.redis.set(world.stream, "not a stream");
  await expectAccepted(await world.upload("a form"));
  await expectAccepted(await world.put("a.txt", "a body"));
  for (let i = 0; i < 2; i++) await expectAccepted(await world.put("b.txt", "under a key", { "Idempotency-Key": "k" }));
  expect(await inboxKeys(world)).toHaveLength(3);

  await world.redis.del(world.stream);
  world.setClock(new Date(Date.now() + 3_600_000));
  await world.reconcile();
  await world.settleAll();
  expect(await world.ledger()).toBe(3);
});

test("a remembered stream id that Redis does not give out makes no failure of a repeat", async () => {
  const { file_id } = await (await world.put("a.txt", "a", { "Idempotency-Key": "k" })).json() as { file_id: string };
  const memory = `${world.stream}:stream-id:${file_id}`;
  await world.redis.del(memory);
  await world.redis.rpush(memory, "not a string");
  expect((await world.put("a.txt", "a", { "Idempotency-Key": "k" })).status).toBe(202);
});

test("the counts say that Redis is not as it should be", async () => {
  await world.redis.set(world.stream, "not a stream");
  const response = await fetch(`${world.url}/api/counts`);
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ redis: null, timescale: 0, degraded: ["redis"] });
  expect((await fetch(`${world.url}/dashboard`)).status).toBe(200);
});

test("a worker goes on once the stream is one again", async () => {
  await world.redis.set(world.stream, "not a stream");
  await expect(world.settle()).rejects.toMatchObject({ name: "Unavailable", dependency: "redis", refused: true });
  await world.redis.del(world.stream);
  await world.put("a.txt", "a");
  await world.settleAll();
  expect(await world.ledger()).toBe(1);
});

test("a refusal is an error in the log, with how many there were, once a minute; a Redis that is away is none", async () => {
  const log = { error: vi.fn(), debug: vi.fn() };
  const enqueue = createEnqueue({ redis: world.context.redis, stream: world.stream, log: log as unknown as Log });
  await world.redis.set(world.stream, "not a stream");
  for (let i = 0; i < 3; i++) expect(await enqueue({ upload_id: `u${i}` } as Manifest)).toBeNull();
  expect(log.error.mock.calls).toEqual([[{ err: expect.objectContaining({ message: expect.stringContaining("WRONGTYPE") }), uploadId: "u0", refused: 1 }, "redis refuses notes of uploads"]]);
  world.context.redis.disconnect();
  expect(await enqueue({ upload_id: "away" } as Manifest)).toBeNull();
  expect(log.error).toHaveBeenCalledTimes(1);
});
