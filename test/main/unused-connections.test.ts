import { connect } from "node:net";
import { once } from "node:events";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openWorld } from "../support/world.ts";

test("a connection that a browser opened in advance, and never used, does not hold up the end", async () => {
  const world = await openWorld();
  const { hostname, port } = new URL(world.url);
  const unused = connect(Number(port), hostname);
  unused.on("error", () => {});
  await once(unused, "connect");
  await eventually(() => new Promise((resolve) => world.site.server.getConnections((_error, count) => resolve(count))), 1);
  const since = performance.now();
  await world.site.stop();
  expect(performance.now() - since).toBeLessThan(10_000); // an upload's idle limit of 30 s would be waited for
  await world.close();
  unused.destroy();
});
