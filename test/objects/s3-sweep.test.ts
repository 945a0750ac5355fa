import { CreateMultipartUploadCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { sweeps } from "../../src/objects/object-store.ts";
import { openObjectStore } from "../../src/objects/open.ts";
import { openS3Store, type S3Settings } from "../../src/objects/s3.ts";
import { openRequests } from "../../src/objects/s3-requests.ts";
import { createSweep } from "../../src/objects/s3-sweep.ts";
import { eventually } from "../support/eventually.ts";
import { startNode } from "../support/program.ts";
import { openBucket, S3_MISSING } from "./s3-bucket.ts";

const DAY_MS = 86_400_000;
/** As if it were later: the clocks of both sides may differ by a little. */
const ANY_AGE_MS = -60_000;
const S3 = join(import.meta.dirname, "../../dist/objects/s3.js");

describe.skipIf(S3_MISSING)(S3_MISSING || "sweeping a bucket", () => {
  let bucket: Awaited<ReturnType<typeof openBucket>>;
  let ends: (() => unknown)[] = [];
  beforeEach(async () => {
    bucket = await openBucket({ partSizeBytes: 5 * 1024 ** 2 });
  });
  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    ends = [];
    await bucket.close();
  });

  function open(settings: Partial<S3Settings> = {}) {
    const store = openS3Store({ ...bucket.connection, ...settings });
    ends.push(() => store.close());
    return store;
  }

  async function begin(key: string) {
    const target = { Bucket: bucket.connection.bucket, Key: key };
    const { UploadId } = await bucket.client.send(new CreateMultipartUploadCommand(target));
    return (PartNumber: number) => bucket.client.send(new UploadPartCommand({ ...target, UploadId, PartNumber, Body: "a part" }));
  }

  test("removes what a process left that was killed in the middle of a put, once it is old enough, and no object", async () => {
    const store = open();
    await store.put("stays", Buffer.from("an object"));
    const killed = startNode(["--input-type=module", "-e", `
      const { openS3Store } = await import(process.env.MODULE);
      async function* body() {
        for (let i = 0; i < 3; i++) yield Buffer.alloc(5 * 1024 ** 2);
        await new Promise((resolve) => setTimeout(resolve, 500)); // the parts are on their way
        console.log("in the middle");
        setInterval(() => {}, 1_000);
        await new Promise(() => {});
      }
      await openS3Store(JSON.parse(process.env.CONNECTION)).put("killed", body());
    `], { MODULE: S3, CONNECTION: JSON.stringify(bucket.connection) });
    ends.push(() => killed.kill("SIGKILL"));
    await killed.says(/in the middle/);
    killed.kill("SIGKILL");
    await killed.exit;
    expect(await bucket.leftovers()).toEqual(["killed"]);

    expect(await store.sweep(DAY_MS)).toBe(0);
    expect(await bucket.leftovers()).toEqual(["killed"]);
    expect(await store.sweep(ANY_AGE_MS)).toBe(1);
    expect(await bucket.leftovers()).toEqual([]);
    expect((await store.list("", { limit: 10 })).map(({ key }) => key)).toEqual(["stays"]);
    expect(await store.sweep(ANY_AGE_MS)).toBe(0);
  });

  test("leaves an upload alone that began long ago and got a part lately", async () => {
    const store = open();
    const send = await begin("slow");
    await send(1);
    const startedAt = Date.now();
    await eventually(() => Date.now() - startedAt > 3_000, true);
    await send(2);
    expect(await store.sweep(2_000)).toBe(0);
    await eventually(() => store.sweep(2_000), 1);
    expect(await bucket.leftovers()).toEqual([]);
  });

  test("looks under its own prefix only, and handles any key", async () => {
    for (const key of ["inbox/a b+c%20ü", "inbox/other", "elsewhere"]) await begin(key);
    expect(await open({ prefix: "inbox/" }).sweep(ANY_AGE_MS)).toBe(2);
    expect(await bucket.leftovers()).toEqual(["elsewhere"]);
    expect(await open().sweep(ANY_AGE_MS)).toBe(1);
  });

  test("goes through as many as there are, page by page, and parts too", async () => {
    const sends = await Promise.all(Array.from({ length: 11 }, (_, i) => begin(`many/${i % 4} ü`)));
    await Promise.all(sends.map((send) => send(1)));
    const requests = openRequests(bucket.connection);
    ends.push(() => requests.close());
    const sweep = createSweep({ bucket: bucket.connection.bucket, prefix: "many/", requests, uploadsAPage: 3 });
    expect(await sweep(ANY_AGE_MS)).toBe(11);
    expect(await bucket.leftovers()).toEqual([]);
  });

  test("is a thing that the worker finds its stores can do", async () => {
    const store = await openObjectStore({ mode: "s3", ...bucket.connection });
    ends.push(() => store.close());
    expect(sweeps(store)).toBe(true);
  });

  test.each([
    ["that cannot list uploads has nothing to sweep", 501, "NotImplemented", 0],
    ["that forbids it is trouble that is told", 403, "AccessDenied", undefined],
  ])("a server %s", async (_what, status, code, expected) => {
    const server = createServer((_req, res) => {
      res.writeHead(status, { "Content-Type": "application/xml" }).end(`<Error><Code>${code}</Code><Message>no</Message></Error>`);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ends.push(() => server.close(), () => server.closeAllConnections());
    const store = open({ endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
    const answer = await store.sweep(DAY_MS).catch((error: unknown) => error);
    if (expected === undefined) expect(answer).toBeInstanceOf(Unavailable);
    else expect(answer).toBe(expected);
  });
});
