import { createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../../src/core/config.ts";
import { createLog } from "../../src/core/log.ts";
import { openContext } from "../../src/main/context.ts";
import { openSite } from "../../src/main/site.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { BODY, sha256, tusAt } from "../support/tus.ts";
import { openWorld, type World } from "../support/world.ts";

let world: World;
beforeAll(async () => {
  world = await openWorld({ INBOX: "s3", STORAGE_MODE: "s3", SMALL_OBJECT_BYTES: "1000" });
});
afterAll(() => world.close());

/** A second web process, of whose requests to the bucket one can be held back. Not every server (Ceph 18) knows all conditions. */
async function openSlowSite(isMeant: (req: IncomingMessage) => boolean) {
  const to = new URL(world.env.S3_ENDPOINT!);
  let release = () => {};
  let hold = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  const held = new Promise<void>((resolve) => (hold = resolve));
  const proxy = createServer(async (req, res) => {
    if (isMeant(req)) {
      hold();
      await released;
    }
    const on = request({ host: to.hostname, port: to.port, method: req.method, path: req.url, headers: req.rawHeaders as never }, (answer) => {
      res.writeHead(answer.statusCode!, answer.rawHeaders as never);
      answer.pipe(res);
    });
    req.pipe(on);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const env = { ...world.env, S3_ENDPOINT: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  const context = await openContext({ config: parseConfig(env), log: createLog("silent", "test"), clock: { now: () => new Date() } });
  const site = await openSite(context);
  return {
    url: site.url(), held, release,
    async close() {
      await site.stop();
      await context.close();
      proxy.closeAllConnections();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}

async function assertStored(location: string, bytes: Uint8Array): Promise<void> {
  await world.settleAll();
  const status = await (await fetch(`${world.url}/api/files/${location.split("/").at(-1)}/status`)).json();
  expect(status).toMatchObject({ status: "stored", sha256: sha256(bytes) });
}

test("a large piece that is put together late, by a process whose client went elsewhere, takes the place of nothing", async () => {
  const slow = await openSlowSite((req) => req.method === "POST" && req.url!.includes("uploadId="));
  const tus = tusAt(world.url);
  const bytes = tus.bytes(20_000_000);
  const { location } = await tus.create({ "Upload-Length": String(bytes.length) });
  const sending = request(slow.url + location, { method: "PATCH", headers: { ...BODY, "Upload-Offset": "0", "Content-Length": String(bytes.length) } });
  const answer = new Promise((resolve) => sending.on("response", (response) => resolve(response.resume().statusCode)).on("error", resolve));
  sending.write(bytes.subarray(0, 9_000_000)); // and then its network is gone
  await slow.held;
  expect(await tus.offset(location)).toBe(0);
  expect((await tus.patch(location, 0, bytes)).headers.get("upload-offset")).toBe(String(bytes.length));
  slow.release();
  expect(await answer).toBe(409);
  await assertStored(location, bytes);
  sending.destroy();
  await slow.close();
});

test("of a termination and the last byte that cross at two processes one is first, and what is promised stays", async () => {
  const slow = await openSlowSite((req) => req.method === "PUT" && req.url!.includes("/partials/"));
  const tus = tusAt(world.url);
  const bytes = tus.bytes(50_000);
  const { location } = await tus.create({ "Upload-Length": String(bytes.length) });
  const removing = tusAt(slow.url).remove(location);
  await slow.held;
  expect((await tus.patch(location, 0, bytes)).status).toBe(204);
  slow.release();
  expect((await removing).status).toBe(409);
  await assertStored(location, bytes);
  await eventually(() => tus.offset(location), bytes.length);
  await slow.close();
});
