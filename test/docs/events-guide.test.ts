import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

const ROOT = join(import.meta.dirname, "../..");
const API = sectionOf("docs/api.md", "## Events", "## Errors");
const OPERATIONS = sectionOf("docs/operations.md", "## Events", "## The dashboard");

function sectionOf(page: string, from: string, to: string): string {
  const text = readFileSync(join(ROOT, page), "utf8");
  return text.slice(text.indexOf(`${from}\n`), text.indexOf(`${to}\n`));
}

const blocksOf = (text: string, language: string) => [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))].map(([, block]) => block!);

let world: World;
beforeAll(async () => { world = await openWorld(); });
afterAll(() => world.close());

async function run(lines: string): Promise<{ status: number; body: any }[]> {
  const script = `curl() { command curl -sS -w '\\n%{http_code}\\n' "$@"; }\n${lines.replaceAll("http://localhost:8080", world.url)}`;
  const { stdout } = await promisify(execFile)("bash", ["-euc", script]);
  const printed = stdout.trim().split("\n");
  return printed.flatMap((line, at) => (at % 2 === 0 ? [{ body: JSON.parse(line), status: Number(printed[at + 1]) }] : []));
}

describe("the API guide's lines about events", () => {
  test("are accepted as they are written, and the figures are answered", async () => {
    const [sending, asking, ...more] = blocksOf(API, "sh");
    expect(more).toEqual([]);
    expect(await run(sending!)).toEqual([
      { status: 202, body: { status: "accepted" } }, { status: 202, body: { status: "accepted" } },
      { status: 202, body: { status: "accepted", accepted: 2, refused: [] } }, { status: 202, body: { status: "accepted", accepted: 2, refused: [] } },
    ]);
    await world.recordAll();
    const answers = await run(asking!);
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
    const [stats] = blocksOf(API, "json").map((text) => JSON.parse(text));
    expect(Object.keys(answers[0]!.body)).toEqual(Object.keys(stats));
    expect(answers[0]!.body).toMatchObject({ total_views: 3, unique_users: 1, top_paths: [{ path: "/", views: 1 }, { path: "/home", views: 1 }] });
    expect(await world.sql("select timestamp from events where event_id = 'order-4711'")).toEqual([{ timestamp: new Date("2026-11-20T09:30:00Z") }]);
  });

  test("show answers that are given", async () => {
    const [, stated] = /the answer is `([^`]+)`/.exec(API)!;
    const answer = await world.send([{ site_id: "a", event_type: "b" }, { site_id: "a" }, { site_id: "a", event_type: "b" }]);
    expect(await answer.json()).toEqual(JSON.parse(stated!));
    await world.recordAll();
  });
});

describe("the operations guide's lines about events", () => {
  const [letters, throwAway, compare, recount] = blocksOf(OPERATIONS, "sql");
  const figures = async () => ({
    quarters: await world.sql("select * from event_quarters order by 1, 2, 3"), paths: await world.sql("select * from event_paths order by 1, 2, 3"),
    pathDays: await world.sql("select * from event_path_days order by 1, 2, 3"), userDays: await world.sql("select * from event_user_days order by 1, 2, 3"),
    days: await world.sql("select * from event_days order by 1, 2"),
  });

  test("hold the figures against the events, and count them anew", async () => {
    const at = (hours: number) => new Date(Date.UTC(2026, 10, 20, 0, hours * 60)).toISOString();
    await world.send(Array.from({ length: 200 }, (_, i) => ({
      site_id: i % 3 ? "shop" : "it's another", event_type: i % 5 ? "pageview" : "click", timestamp: at(i / 4), ...(i % 7 && { path: `/${i % 11}` }), ...(i % 4 && i < 150 && { user_id: `u${i % 13}` }),
    })));
    await world.recordAll();
    expect(await world.sql(compare!)).toEqual([]);
    const before = await figures();
    await world.sql("update event_quarters set events = events + 1 where site_id = 'shop' and event_type = 'click'");
    await world.sql("delete from event_path_days");
    await world.sql("update event_days set users = 7");
    expect((await world.sql(compare!)).length).toBeGreaterThan(0);
    for (const site of ["shop", "it's another", "a"]) await world.sql(recount!.replaceAll(":'site'", `'${site.replaceAll("'", "''")}'`));
    expect(await world.sql(compare!)).toEqual([]);
    expect(await figures()).toEqual(before);
  });

  test("show a batch that was given up, and put it back so that it counts once", async () => {
    await world.sql("alter table events add constraint refused check (site_id <> 'bad') not valid");
    await world.send([{ site_id: "bad", event_type: "pageview", path: '/"quoted"\\' }, { site_id: "bad", event_type: "pageview", event_id: "1" }]);
    await world.recordAll();
    const [letter, ...others] = await world.sql<{ id: number; batch_id: string; stream_id: string; events: number; begins: string }>(letters!);
    expect(JSON.parse(letter!.begins)).toEqual([["bad", "pageview", '/"quoted"\\', null, expect.any(Number), null], ["bad", "pageview", null, null, expect.any(Number), "1"]]);
    expect([letter!.events, others]).toEqual([2, []]);
    await world.sql("alter table events drop constraint refused");

    const [line] = blocksOf(OPERATIONS, "sh");
    expect(line).toContain("-x XADD ConnectStorm:events '*' key \"$BATCH\" body");
    const [{ message }] = await world.sql<{ message: string }>("select message from event_dead_letters") as [{ message: string }];
    for (let time = 0; time < 2; time++) await world.redis.xadd(world.context.eventsStream, "*", "key", letter!.batch_id, "body", `${message}\n`); // -x leaves psql's newline
    await world.recordAll();
    expect(await world.stats({ site_id: "bad" })).toMatchObject({ total_views: 2 });
    const [look, away] = throwAway!.trim().split("\n");
    expect(await world.sql(look!.replace(/'.*'/, `'${letter!.batch_id}'`))).toHaveLength(1);
    await world.sql(away!.replace("= 1", `= ${letter!.id}`));
    expect(await world.sql(letters!)).toEqual([]);
    expect(await world.sql(compare!)).toEqual([]);
  });
});
