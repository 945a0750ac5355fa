import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backlogBytes } from "../../src/stream/backlog.ts";
import { openWorld, type World } from "../support/world.ts";

const SMALL = "x".repeat(150);
const LARGE = "x".repeat(128 * 1024);
const SMALL_ONES = 5_000;
const LARGE_ONES = 50;

let world: World;
beforeAll(async () => { world = await openWorld(); });
afterAll(() => world.close());

async function append(stream: string, body: string, count: number): Promise<void> {
  const pipeline = world.redis.pipeline();
  for (let i = 0; i < count; i++) pipeline.xadd(stream, "*", "key", "k", "body", body);
  await pipeline.exec();
}

describe("a stream is weighed as a whole", () => {
  test.each([["small ones before large ones", [SMALL, LARGE]], ["large ones before small ones", [LARGE, SMALL]]])("%s", async (what, bodies) => {
    const stream = `${world.id}:${what}`;
    for (const body of bodies) await append(stream, body, body === SMALL ? SMALL_ONES : LARGE_ONES);
    const payload = SMALL_ONES * SMALL.length + LARGE_ONES * LARGE.length;
    const bytes = await backlogBytes(world.redis, stream);
    expect(bytes).toBeGreaterThan(payload);
    expect(bytes).toBeLessThan(2 * payload);
    await world.redis.del(stream);
  });

  test("one that is not there has none", async () => {
    expect(await backlogBytes(world.redis, `${world.id}:none`)).toBe(0);
  });
});
