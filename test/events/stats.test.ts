import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openWorld, type World } from "../support/world.ts";

describe("figures of events", () => {
  let world: World;
  beforeAll(async () => { world = await openWorld(); });
  afterAll(() => world.close());

  test("the seed's workflow gives the figures it should", async () => {
    for (const [path, user] of [["/home", "user1"], ["/about", "user1"], ["/home", "user2"]]) {
      const answer = await world.send({ site_id: "test-site", event_type: "pageview", path, user_id: user });
      expect([answer.status, await answer.json()]).toEqual([202, { status: "accepted" }]);
    }
    await world.recordAll();
    expect(await world.stats({ site_id: "test-site" })).toEqual({
      site_id: "test-site", date: new Date().toISOString().slice(0, 10), total_views: 3, unique_users: 2,
      top_paths: [{ path: "/home", views: 2 }, { path: "/about", views: 1 }],
    });
  });
});
