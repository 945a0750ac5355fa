import { afterAll, beforeAll, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
  for (let i = 0; i < 25; i++) await world.put(`${i}.txt`, `${i}`);
  await world.settleAll();
});
afterAll(() => world.close());

async function page(query: string) {
  const response = await fetch(`${world.url}/api/files${query}`);
  return { status: response.status, ...(await response.json()) };
}

test("files are listed newest first, page by page, each once, while new ones come in", async () => {
  const names: string[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const answer: { files: { name: string }[]; next_cursor: string | null } = await page(`?limit=10${cursor && `&cursor=${cursor}`}`);
    names.push(...answer.files.map(({ name }) => name));
    cursor = answer.next_cursor;
    await world.put("newer.txt", "newer");
    await world.settleAll();
  }
  expect(names).toEqual(Array.from({ length: 25 }, (_, i) => `${24 - i}.txt`));
});

test("a file is described with its address, hash and times", async () => {
  const { files } = await page("?limit=1");
  expect(files[0]).toMatchObject({
    id: expect.any(String), size: expect.any(Number), sha256: expect.stringMatching(/^[0-9a-f]{64}$/), content_type: "text/plain",
    uploader_id: null, url: `/api/files/${files[0].id}`, status_url: `/api/files/${files[0].id}/status`,
  });
  expect(new Date(files[0].stored_at).getTime()).toBeGreaterThanOrEqual(new Date(files[0].event_time).getTime());
  const alone = await fetch(world.url + files[0].url, { headers: { Accept: "application/json" } });
  expect({ ...(await alone.json()), status: "stored", reason: null }).toEqual(files[0]);
});

test.each(["?limit=0", "?limit=501", "?limit=many", "?cursor=junk", "?cursor=MTIz"])("%s is refused with the parameter's name", async (query) => {
  const answer = await page(query);
  expect(answer).toMatchObject({ status: 400, code: "INVALID_QUERY", error: expect.stringMatching(/limit|cursor/) });
});

test("the counts have the seed's three figures, and agree with stream and ledger", async () => {
  await world.put("waiting.txt", "waiting");
  const counts = await (await fetch(`${world.url}/api/counts`)).json();
  expect(counts).toMatchObject({ redis: 1, timescale: await world.ledger(), timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/), dead_letters: 0, degraded: [] });
  await world.settleAll();
  expect(await (await fetch(`${world.url}/api/counts`)).json()).toMatchObject({ redis: 0, timescale: counts.timescale + 1 });
});
