import { afterAll, beforeAll, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world.close());

const api = (path: string, method = "GET", headers: Record<string, string> = {}) => fetch(`${world.url}/api/dead-letters${path}`, { method, headers });

test.each(["?limit=0", "?limit=501", "?cursor=x", `?cursor=${Buffer.from("1 2").toString("base64url")}`, `?cursor=${"a".repeat(201)}`])("the list refuses %s", async (query) => {
  const response = await api(query);
  expect([response.status, (await response.json()).code]).toEqual([400, "INVALID_QUERY"]);
});

test.each(["not-an-id", "01A1F8A3-A4F8-7636-A6E0-D2E4950CBED2", "01a1f8a3-a4f8-7636-a6e0-d2e4950cbed2", "%00"])("there is no dead letter %s", async (id) => {
  for (const [path, method] of [[`/${id}/retry`, "POST"], [`/${id}`, "DELETE"]] as const) {
    const response = await api(path, method);
    expect([response.status, (await response.json()).code]).toEqual([404, "DEAD_LETTER_NOT_FOUND"]);
  }
});

test.each([["", "POST", "GET, HEAD"], ["/retry", "GET", "POST"], ["/x", "GET", "DELETE"], ["/x/retry", "PUT", "POST"]])("%s with %s is told what there is", async (path, method, allowed) => {
  const response = await api(path, method);
  expect([response.status, response.headers.get("allow")]).toEqual([405, allowed]);
});

test.each([["/retry", "POST"], ["/x/retry", "POST"], ["/x", "DELETE"]])("%s, %s from another site is refused", async (path, method) => {
  const response = await api(path, method, { "Sec-Fetch-Site": "cross-site" });
  expect([response.status, (await response.json()).code]).toEqual([403, "CROSS_SITE_REQUEST"]);
});
