import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EVENTS_GROUP } from "../../src/events/messages.ts";
import { openEventsCrowd, type EventsCrowd } from "./events-crowd.ts";
import { EventsNotKept, judgeEvents, type EventsClients, type EventsExpectation } from "./events-oracle.ts";
import { openHub, type Hub } from "./hub.ts";

// What judges the others: one fault for each thing it can say, which it has to say, and nothing else.
let hub: Hub;
let crowd: EventsCrowd;
beforeAll(async () => {
  hub = await openHub();
  await hub.start();
  crowd = openEventsCrowd({ urls: hub.urls, keyless: 0.5 });
  await crowd.more(30);
  await crowd.stop();
  await judgeEvents(hub, { crowds: [crowd] });
  await hub.worker.kill(); // it would record what is planted
});
afterAll(() => hub.close());

async function findWrong(expectation: Partial<EventsExpectation> = {}): Promise<readonly string[]> {
  return judgeEvents(hub, { crowds: [crowd], withinMs: 200, ...expectation }).then(() => expect.fail("the oracle saw nothing"), (error: EventsNotKept) => error.wrong);
}

/** What is planted is told, and nothing besides; once it is taken back, all is in order again. */
async function expectTold(told: readonly unknown[], plant: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<void> {
  await plant();
  expect(await findWrong()).toEqual(told);
  await undo();
  await judgeEvents(hub, { crowds: [crowd] });
}

describe("of what waits, is told", () => {
  test("an entry in the stream", () => expectTold(["1 entries in the stream of events"],
    () => hub.redis.xadd(hub.eventsStream, "*", "of", "nobody"),
    () => hub.redis.xtrim(hub.eventsStream, "MAXLEN", 0)));

  test("a pending entry", () => expectTold(["1 pending entries of events"], async () => {
    await hub.redis.xadd(hub.eventsStream, "*", "of", "nobody");
    await hub.redis.xreadgroup("GROUP", EVENTS_GROUP, "a-dead-worker", "STREAMS", hub.eventsStream, ">");
    await hub.redis.xtrim(hub.eventsStream, "MAXLEN", 0);
  }, () => hub.redis.xgroup("DELCONSUMER", hub.eventsStream, EVENTS_GROUP, "a-dead-worker")));

  test("a unit in the spool", () => expectTold(["1 units in the spool"],
    async () => (await hub.inboxStore()).put("events/x.1", Buffer.from("x")),
    async () => (await hub.inboxStore()).remove(["events/x.1"])));

  test("a dead letter that nobody meant, and one that was meant and is none", async () => {
    await expectTold(["1 dead letters of events, where 0 were meant"],
      () => hub.sql("insert into event_dead_letters (batch_id, reason, message) values ('x', 'planted', '')"),
      () => hub.sql("delete from event_dead_letters"));
    expect(await findWrong({ deadLetters: 1 })).toEqual(["0 dead letters of events, where 1 were meant"]);
  });
});

describe("of rows, is told, beside the figures that do not fit", () => {
  const taken = { plant: "", undo: "insert into events select * from taken" };
  const OF_THE_FIGURES = expect.stringMatching(/^event_\w+ has .* and a recount .* rows? differ$/);
  const none = async () => {};

  /** Rows that are as they are, and changed behind the figures' back. */
  async function expectOfRows(told: readonly unknown[], plant: string, undo: string): Promise<void> {
    await hub.sql("create table taken as select * from events order by id limit 1");
    await hub.sql(plant);
    const wrong = await findWrong();
    expect(wrong.filter((sentence) => !/^event_\w+ has/.test(sentence))).toEqual(told);
    expect(wrong).toContainEqual(OF_THE_FIGURES);
    await hub.sql(undo);
    await hub.sql("drop table taken");
    await judgeEvents(hub, { crowds: [crowd] });
    await none();
  }

  test("an event that is lost", () => expectOfRows(
    [expect.stringMatching(/^\d+ of \d+ events are recorded$/), expect.stringMatching(/^LOST: 1 acknowledged events are not there, such as site-[ab] (id|path) /)],
    "delete from events where id = (select id from taken)", taken.undo));

  test.each([["with an id", "is not null", 1], ["without", "is null", 0]])("an event that is there twice, %s", async (_what, which, ids) => {
    const one = `(select min(id) from events where event_id ${which})`;
    await expectOfRows([
      expect.stringMatching(/^DOUBLED: 1 events are there more often than they may be, such as site-/),
      ...Array.from({ length: ids }, () => expect.stringMatching(/^events has 2 rows of site-[ab], \w+; so it is with 1 ids$/)),
    ], `insert into events (id, site_id, event_type, path, user_id, timestamp, event_id) select -1, site_id, event_type, path, user_id, timestamp, event_id from events where id = ${one}`,
    "delete from events where id = -1");
  });

  test("an event that is another than was sent", () => expectOfRows([expect.stringMatching(/^1 events are not as they were sent, such as site-/)],
    "update events set event_type = 'other' where id = (select id from taken)", "update events set event_type = (select event_type from taken) where id = (select id from taken)"));

  test("an event that nobody sent", () => expectOfRows(["1 events were sent by nobody, such as site-z path /z"],
    "insert into events (id, site_id, event_type, path, timestamp) values (-1, 'site-z', 'pageview', '/z', now())", "delete from events where id = -1"));
});

test("figures that differ are told of", () => expectTold([expect.stringMatching(/^event_days has \d+ and a recount \d+ of site-/)],
  () => hub.sql("update event_days set users = users + 1 where (site_id, day) = (select site_id, day from event_days order by 1, 2 limit 1)"),
  () => hub.sql("update event_days set users = users - 1 where (site_id, day) = (select site_id, day from event_days order by 1, 2 limit 1)")));

describe("of what clients saw, is told", () => {
  const clients = (refusals: string[]): EventsClients => ({ all: new Map(), refusals: () => refusals });

  test("a refusal that no sane client deserves", async () => {
    const refusals = ["/event was answered 500: "];
    expect(await findWrong({ crowds: [crowd, clients(refusals)] })).toEqual(refusals);
    refusals.length = 0;
  });

  test("an event that was refused and is there all the same", async () => {
    const [first] = [...crowd.all.values()];
    const { sent, acknowledged } = first!;
    Object.assign(first!, { sent: 0, acknowledged: 0 });
    expect(await findWrong()).toEqual([expect.stringMatching(/^DOUBLED: 1 events/)]);
    Object.assign(first!, { sent, acknowledged });
  });
});

test("what the other oracle says is told as well: of logs, and of processes that died", async () => {
  await hub.webs[0]!.program()!.kill("SIGKILL");
  await hub.web.died();
  await hub.web.start();
  expect(await findWrong()).toEqual([expect.stringContaining("web ended by itself with SIGKILL")]);
});
