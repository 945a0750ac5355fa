import { Agent, get } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openCrowd, type Crowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, NotKept, takeBaseline } from "./oracle.ts";

// What judges all the others. Each test leaves behind what it did, but for the first.
let hub: Hub;
let crowd: Crowd;
let ids: string[];
beforeAll(async () => {
  hub = await openHub();
  await hub.start();
  crowd = openCrowd({ urls: hub.urls, clients: 3, sizes: [900, 300_000], repeated: 0 });
  await crowd.more(20);
  takeBaseline(hub);
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
  ids = [...crowd.acknowledged.keys()];
});
afterAll(() => hub.close());

async function findWrong(): Promise<NotKept> {
  return judge(hub, { crowds: [crowd], withinMs: 1_000 }).then(() => expect.fail("the oracle saw nothing"), (error: NotKept) => error);
}

test("a process that keeps more open than it had is told of, until it lets go", async () => {
  const agent = new Agent({ keepAlive: true });
  await Promise.all(Array.from({ length: 40 }, () => new Promise((resolve) => get(`${hub.web.url}/health`, { agent }, (response) => response.resume().on("end", resolve)))));
  const { wrong, verdict } = await findWrong();
  expect(wrong).toEqual([expect.stringMatching(/a process has \d+ descriptors open; it had \d+, and 20 more are allowed/)]);
  expect(verdict).toMatchObject({ acknowledged: ids.length, lost: 0, doubled: 0 });
  agent.destroy();
  await judge(hub, { crowds: [crowd] });
});

test("a row that is gone is a loss, and the verdict counts it", async () => {
  await hub.sql("delete from file_events where file_id = $1", [ids[0]]);
  const { wrong, verdict, message } = await findWrong();
  expect(verdict).toMatchObject({ acknowledged: ids.length, lost: 1, doubled: 0 });
  expect(wrong).toContain(`LOST: 1 acknowledged uploads have no ledger row, such as ${ids[0]}`);
  expect(message).toContain(wrong[0]);
});

test("a second row of an upload is a double", async () => {
  await hub.sql("insert into file_events select (jsonb_populate_record(e, jsonb_build_object('event_time', e.event_time + interval '1 second'))).* from file_events e where file_id = $1", [ids[1]]);
  const { wrong, verdict } = await findWrong();
  expect(verdict).toMatchObject({ lost: 1, doubled: 1 });
  expect(wrong).toContain(`DOUBLED: 1 uploads have more than one ledger row, such as ${ids[1]}`);
});

test("bytes that are not those that were acknowledged, and a process that died by itself", async () => {
  crowd.acknowledged.get(ids[2]!)!.sha256 = "0".repeat(64);
  const { exit } = hub.worker.program()!;
  hub.worker.program()!.kill("SIGKILL"); // past the slot, which knows nothing of it
  await exit;
  const { wrong } = await findWrong();
  expect(wrong).toContain(`${ids[2]} comes back with other bytes (status 200)`);
  expect(wrong).toContainEqual(expect.stringMatching(/^worker ended by itself with SIGKILL/));
});
