import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openS3FaultProxy, type S3Faults } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

let proxy: Awaited<ReturnType<typeof openS3FaultProxy>>;
let hub: Hub;
afterEach(async () => {
  await hub.close();
  await proxy.close();
});

async function open(settings: Record<string, string>, start = () => hub.start()): Promise<void> {
  proxy = await openS3FaultProxy(servers.s3().endpoint);
  hub = await openHub({ settings: { STORAGE_MODE: "s3", S3_TIMEOUT_SECONDS: "2", ...settings }, through: { s3: new URL(proxy.endpoint).host } });
  await start();
}

const TROUBLES: [string, S3Faults][] = [
  ["answers three of ten requests with 500 or 503", { failShare: 0.3 }],
  ["loses three of ten answers, after having done what was asked", { loseReplyShare: 0.3 }],
  ["takes requests and never answers", { hang: true }],
  ["passes 10 KB a second", { bytesPerSecond: 10_000 }],
  ["is down", { down: true }],
];

describe("with the inbox on disk and the storage in an S3 that", () => {
  test.each(TROUBLES)("%s: uploads go on and wait, and each is stored once", async (_what, faults) => {
    await open({ INBOX: "disk" });
    const crowd = openCrowd({ urls: hub.urls, everyMs: 50, sizes: [1, 4_000, 60_000, 300_000] });
    await crowd.more(20);
    takeBaseline(hub);
    proxy.set(faults);
    await crowd.more(100);
    expect(Object.keys(crowd.answers)).toEqual(["202"]);
    proxy.set({});
    await crowd.more(10);
    await crowd.stop();
    await judge(hub, { crowds: [crowd] });
    expect(await hub.sql("select upload_id from settle_attempts")).toEqual([]);
  });
});

describe("with inbox and storage in an S3 that", () => {
  test.each(TROUBLES)("%s: who gets no 202 is told when to come back, and who got one has one file", async (_what, faults) => {
    await open({ INBOX: "s3" });
    const crowd = openCrowd({ urls: hub.urls, clients: 4, everyMs: 50, sizes: [1, 4_000, 60_000, 300_000] });
    await crowd.more(20);
    takeBaseline(hub);
    proxy.set(faults);
    if (faults.hang || faults.down) {
      const refused = await fetch(`${hub.web.url}/api/upload/a.txt`, { method: "PUT", body: "not kept" });
      expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
    } else {
      const count = () => Object.values(crowd.answers).reduce((sum, of) => sum + of, 0);
      const before = count();
      await eventually(() => count() > before + 15, true, 60_000); // at 10 KB a second the large ones get no 202 in time
    }
    proxy.set({});
    await crowd.more(10);
    await crowd.stop();
    expect(Object.keys(crowd.answers).filter((status) => !["202", "503"].includes(status))).toEqual([]);
    await judge(hub, { crowds: [crowd] });
  });
});

test("a worker that is told to end while it goes through a long inbox in a slow bucket ends in time", async () => {
  await open({ INBOX: "s3", STORAGE_MODE: "local", CONSUMER_BATCH_SIZE: "1", SHUTDOWN_SECONDS: "10" }, () => hub.web.start().then(() => {}));
  const crowd = openCrowd({ urls: hub.urls, clients: 16, sizes: [2_000] });
  await crowd.more(400);
  await crowd.stop();
  for (const key of await hub.redis.keys(`${hub.config.REDIS_PREFIX}*`)) await hub.redis.del(key); // all that waits is the reconciler's
  // 2.5 s for each record, 32 at once: half a minute for all
  proxy.set({ bytesPerSecond: 1_000, only: (method, path) => method === "GET" && path.includes("/inbox/manifests/") });
  const worker = await hub.worker.start();
  const before = proxy.counts().passed;
  await eventually(() => proxy.counts().passed > before + 32, true);
  await hub.worker.kill("SIGTERM");
  expect([await worker.exit, /did not stop in time/.test(worker.output())]).toEqual([0, false]);

  proxy.set({});
  await hub.worker.start();
  await judge(hub, { crowds: [crowd] });
});
