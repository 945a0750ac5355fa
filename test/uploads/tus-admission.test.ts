import { request } from "node:http";
import { expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { eventually } from "../support/eventually.ts";
import { BODY, tusAt } from "../support/tus.ts";
import { openWorld } from "../support/world.ts";

test("asking again for what is promised adds nothing to what waits", async () => {
  const world = await openWorld({ MAX_BACKLOG: "20" });
  const tus = tusAt(world.url);
  const { location } = await tus.create({ "Upload-Length": "5" });
  expect((await tus.patch(location, 0, Buffer.from("hello"))).status).toBe(204);
  await world.settleAll();
  for (let i = 0; i < 30; i++) expect((await tus.patch(location, 5, new Uint8Array())).status).toBe(204);
  expect((await world.put("a.txt", "other")).status).toBe(202);
  await world.close();
});

test("an upload that is refused leaves no record of it, and takes nothing of anyone's quota", async () => {
  const world = await openWorld({ MAX_BACKLOG: "1", ADDRESS_UPLOADS_PER_MINUTE: "5" });
  const tus = tusAt(world.url);
  expect((await world.put("a.txt", "waits")).status).toBe(202);
  for (let i = 0; i < 6; i++) {
    const refused = i % 2 === 0 ? await tus.create({ "Upload-Length": "500" }) : await tus.create({ "Upload-Length": "500" }, tus.bytes(100));
    expect([refused.status, (await refused.json()).code]).toEqual([503, "BACKLOG_FULL"]);
  }
  expect(await world.context.inbox.store.list("partials/", { limit: 10 })).toEqual([]);
  await world.settleAll();
  await eventually(async () => (await world.put("b.txt", "comes")).status, 202);
  await world.close();
});

test("creations, parts and final uploads count as uploads a minute, requests that bring bytes do not", async () => {
  const world = await openWorld({ ADDRESS_UPLOADS_PER_MINUTE: "3" });
  const tus = tusAt(world.url);
  const { location } = await tus.create({ "Upload-Length": "5", "Upload-Concat": "partial" });
  for (let at = 0; at < 5; at++) expect((await tus.patch(location, at, tus.bytes(1))).status).toBe(204);
  expect((await tus.create({ "Upload-Concat": `final;${location}` })).status).toBe(201);
  expect((await tus.create({ "Upload-Length": "5" })).status).toBe(201);
  const refused = await tus.create({ "Upload-Concat": `final;${location}` });
  expect([refused.status, (await refused.json()).code]).toEqual([429, "TOO_MANY_UPLOADS"]);
  await world.close();
});

test("gathering the pieces of an upload takes a place as large as the upload, and waits until there is one", async () => {
  const world = await openWorld({ INBOX: "s3", UPLOAD_MEMORY_BYTES: String(30 * 1024 * 1024) }); // one large upload to a bucket needs 24
  const tus = tusAt(world.url);
  const bytes = tus.bytes(9_000_000);
  const { location } = await tus.create({ "Upload-Length": String(bytes.length) });
  await tus.patch(location, 0, bytes.subarray(0, bytes.length - 1));
  const { inbox } = world.context;
  const { commit } = inbox;
  inbox.commit = async () => { throw new Unavailable("inbox"); };
  expect((await tus.patch(location, bytes.length - 1, bytes.subarray(bytes.length - 1))).status).toBe(503);
  inbox.commit = commit;
  const other = await tus.create({ "Upload-Length": "9000000" });
  const sending = request(world.url + other.location, { method: "PATCH", headers: { ...BODY, "Upload-Offset": "0", "Content-Length": "9000000" } });
  sending.on("error", () => {});
  sending.write(bytes.subarray(0, 100_000));
  await eventually(() => world.site.underWay().uploads, 1);
  expect((await tus.head(location)).status).toBe(423);
  sending.destroy();
  await eventually(() => world.site.underWay().uploads, 0);
  expect(await tus.offset(location)).toBe(bytes.length);
  await world.close();
});

test("the length of an upload is not said past a request that is sending to it", async () => {
  const world = await openWorld();
  const tus = tusAt(world.url);
  const { location } = await tus.create({ "Upload-Defer-Length": "1" });
  const sending = request(world.url + location, { method: "PATCH", headers: { ...BODY, "Upload-Offset": "0", "Transfer-Encoding": "chunked" } });
  const answer = new Promise((resolve) => sending.on("response", (response) => resolve(response.resume().statusCode)));
  sending.write(tus.bytes(4_000));
  await eventually(() => world.site.underWay().uploads, 1);
  const dripping = setInterval(() => sending.write(tus.bytes(100)), 200);
  expect((await tus.patch(location, 77, new Uint8Array(), { "Upload-Length": "5000" })).status).toBe(423);
  clearInterval(dripping);
  sending.end(tus.bytes(4_000));
  expect(await answer).toBe(204);
  const head = await tus.head(location);
  expect([head.headers.get("upload-length"), Number(head.headers.get("upload-offset"))]).toEqual([null, expect.any(Number)]);
  expect(Number(head.headers.get("upload-offset"))).toBeGreaterThan(8_000);
  await world.close();
});
