import { describe, expect, test } from "vitest";
import { newId } from "../../src/core/ids.ts";
import { writeUnit } from "../../src/events/messages.ts";
import { fetch } from "../support/fetch.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, type World } from "../support/world.ts";

const view = (path: string, more: object = {}) => ({ site_id: "s", event_type: "pageview", path, user_id: "u", ...more });
const intakeOf = async (world: World) => (await fetch(`${world.url}/stats/intake`)).json();
const NOWHERE = { REDIS_URL: "redis://127.0.0.1:1", REDIS_TIMEOUT_MS: "200" };

describe("events while Redis does not take them", () => {
  test.each(["disk", "s3"])("wait in the inbox (%s) and are recorded from there, Redis or not", async (inbox) => {
    const world = await openWorld({ ...NOWHERE, INBOX: inbox });
    expect((await world.send(view("/one"))).status).toBe(202);
    expect((await world.send(Array.from({ length: 2_000 }, (_, i) => view(`/many/${i % 3}`)))).status).toBe(202);
    expect(await intakeOf(world)).toMatchObject({ waiting_batches: null, spooled_units: 2, accepted: 2_001, refused_requests: 0, over_quota_requests: 0, last_refusals: null, degraded: ["redis"] });
    await world.recordAll();
    expect(await world.stats({ site_id: "s" })).toMatchObject({ total_views: 2_001, unique_users: 1 });
    expect(await world.context.spool.weigh()).toEqual({ units: 0, sizeBytes: 0 });
    await world.close();
  });

  test("are no uploads that wait, for the door of uploads", async () => {
    const world = await openWorld({ ...NOWHERE, SMALL_OBJECT_BYTES: "65536" });
    for (let i = 0; i < 3; i++) await world.send(view("/"));
    await world.send(Array.from({ length: 2_000 }, (_, i) => view(`/large/${i}`))); // a file of its own beside the index
    expect((await intakeOf(world)).spooled_units).toBe(4);
    expect((await world.context.inbox.weigh(async () => {}, new AbortController().signal)).uploads).toBe(0);
    await world.close();
  });

  test("are refused when as many wait as may, and those are counted", async () => {
    const world = await openWorld({ ...NOWHERE, MAX_EVENT_SPOOL_BYTES: "20000" });
    let taken = 0;
    let refused: Awaited<ReturnType<World["send"]>> | undefined;
    while (!refused && taken < 1_000) {
      const answer = await world.send([view("/x".repeat(200)), view("/y")]);
      if (answer.status === 202) taken += 2;
      else refused = answer;
    }
    expect([refused!.status, refused!.headers.get("retry-after"), (await refused!.json()).code]).toEqual([503, "30", "EVENTS_BACKLOG_FULL"]);
    expect(await intakeOf(world)).toMatchObject({ accepted: taken, refused_requests: 1, last_refusals: { requests: 1, last_code: "EVENTS_BACKLOG_FULL" } });
    await world.recordAll();
    expect((await world.stats({ site_id: "s" })).total_views).toBe(taken);
    await eventually(async () => (await world.send(view("/again"))).status, 202);
    await world.close();
  });

  test("and were in the stream as well, as its reply was lost, are counted once", async () => {
    const world = await openWorld(NOWHERE);
    await world.send([view("/a"), view("/b")]);
    const [unit] = await world.context.spool.list(1);
    const batches = await world.context.spool.read(unit!);
    if (!batches || "unreadable" in batches) throw new Error("it was readable");
    const other = world.recording; // as a worker does that found it in the stream
    expect(await other.record(batches)).toEqual({ events: 2, repeated: 0 });
    await world.recordAll();
    expect((await world.stats({ site_id: "s" })).total_views).toBe(2);
    await world.close();
  });

  test("of which the database refuses one, are recorded but for that one, which is kept for a person to look at", async () => {
    const world = await openWorld(NOWHERE);
    const event = (site: string) => [site, "pageview", "/", "u", Date.now(), null];
    const bodyOf = (...sites: string[]) => JSON.stringify(sites.map(event));
    await world.context.spool.put(Buffer.from(writeUnit([{ id: newId(), body: bodyOf("s", "s") }, { id: newId(), body: bodyOf("s", "x".repeat(256), "s") }])));
    await world.recordAll();
    expect(await world.stats({ site_id: "s" })).toMatchObject({ total_views: 4, unique_users: 1 });
    expect(await world.sql("select events, stream_id, reason from event_dead_letters")).toEqual([{ events: 1, stream_id: null, reason: expect.stringContaining("too long") }]);
    expect((await intakeOf(world)).spooled_units).toBe(0);
    await world.close();
  });

  test("and cannot be read any more, are kept for a person to look at", async () => {
    const world = await openWorld(NOWHERE);
    await world.send(view("/good"));
    await world.context.inbox.store.put("events/00000000-0000-7000-8000-000000000000.5", Buffer.from("[{}]x"));
    await world.recordAll();
    expect((await world.stats({ site_id: "s" })).total_views).toBe(1);
    expect(await world.sql("select reason, message from event_dead_letters")).toEqual([{ reason: "it is no batch of events", message: "[{}]x" }]);
    expect((await intakeOf(world)).spooled_units).toBe(0);
    await world.close();
  });
});

test("events are refused while the stream holds as much as it may, and taken again when the workers have caught up", async () => {
  const world = await openWorld({ MAX_EVENT_BACKLOG_BYTES: "1048576" });
  const many = Array.from({ length: 3_000 }, (_, i) => view(`/${"long".repeat(50)}/${i}`));
  let taken = 0;
  let refused!: Response;
  await eventually(async () => {
    refused = await world.send(many);
    if (refused.status === 202) taken += many.length;
    return refused.status;
  }, 503);
  expect([refused.headers.get("retry-after"), ((await refused.json()) as { code: string }).code]).toEqual(["30", "EVENTS_BACKLOG_FULL"]);
  await world.recordAll();
  expect((await world.stats({ site_id: "s" })).total_views).toBe(taken);
  await eventually(async () => (await world.send(view("/again"))).status, 202);
  await world.close();
});
