import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createStatus } from "../../src/uploads/status.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "1024" });
});
afterEach(() => world.close());

const OTHER = "11111111-1111-8111-8111-111111111111";
const store = () => world.context.inbox.store;
const status = (id: string) => fetch(`${world.url}/api/files/${id}/status`);
const page = (id: string) => fetch(`${world.url}/upload/${id}`, { headers: { Accept: "text/html" } });

async function cutRecord(id: string): Promise<void> {
  await store().put(`manifests/${id}`, (await store().readWhole(`manifests/${id}`))!.slice(0, 40));
}

async function removeRecord(id: string): Promise<void> {
  await store().remove([`manifests/${id}`]);
}

describe.each([
  ["damaged", cutRecord, "cannot be read", 502],
  ["missing", removeRecord, "no manifest", 404],
] as const)("an upload whose record in the inbox is %s", (_what, spoil, reason, withoutLetter) => {
  test("has failed once it is a dead letter: the letter says all that is known of it", async () => {
    const receipt = await (await world.put("lost.csv", "a,b\n", { "X-Uploader-Id": "station-7" })).json();
    const { file_id: id, sha256 } = receipt;
    const { accepted_at } = await (await status(id)).json();
    await spoil(id);
    expect((await status(id)).status).toBe(withoutLetter);
    await world.settleAll();
    const response = await status(id);
    expect([response.status, await response.json()]).toEqual([200, {
      file_id: id, status: "failed", filename: "lost.csv", size: 4, sha256, stream_id: null, accepted_at, event_time: null, stored_at: null,
      reason: expect.stringContaining(reason), attempts: 3, identical_to: null, url: `/api/files/${id}`,
    }]);
    const shown = await page(id);
    const html = await shown.text();
    expect(shown.status).toBe(200);
    for (const part of ["lost.csv", reason, "station-7", sha256, "text/plain", `/dead-letters#${id}`]) expect(html).toContain(part);
    expect(html).not.toMatch(/bytes are kept|Download/);
  });

  test("has failed also where the letter knows nothing but why", async () => {
    const { file_id: id } = await (await world.put("lost.bin", "lost")).json();
    await spoil(id);
    await world.redis.del(world.stream);
    await world.redis.xadd(world.stream, "*", "key", id, "body", "{}");
    await world.settleAll();
    expect(await (await status(id)).json()).toEqual({
      file_id: id, status: "failed", filename: null, size: null, sha256: null, stream_id: null, accepted_at: null, event_time: null, stored_at: null,
      reason: expect.stringContaining(reason), attempts: 3, identical_to: null, url: `/api/files/${id}`,
    });
    const shown = await page(id);
    const html = await shown.text();
    expect([shown.status, html.includes(reason), /null|undefined|Invalid/.test(html)]).toEqual([200, true, false]);
  });

  test("is nobody else's, and none at all when the letter is discarded", async () => {
    const { file_id: id } = await (await world.put("lost.bin", "lost")).json();
    await spoil(id);
    await world.settleAll();
    const statusOf = createStatus(world.context);
    await expect(statusOf(OTHER, id)).rejects.toMatchObject({ code: withoutLetter === 502 ? "FILE_DAMAGED" : "FILE_NOT_FOUND" });
    expect((await fetch(`${world.url}/api/dead-letters/${id}`, { method: "DELETE" })).status).toBe(204);
    expect((await status(id)).status).toBe(404);
  });
});

test("a dead letter of nobody's says nothing of an upload that is somebody else's", async () => {
  await world.sql("alter table files add constraint refused check (name not like 'bad%')");
  const { file_id: id } = await (await world.put("bad.bin", "bytes")).json();
  await world.settleAll();
  await world.sql("update dead_letters set owner_id = null");
  await expect(createStatus(world.context)(OTHER, id)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  expect(await (await status(id)).json()).toMatchObject({ status: "failed", filename: "bad.bin" });
});
