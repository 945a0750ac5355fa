import { afterEach, describe, expect, test } from "vitest";
import { request } from "node:http";
import { missingOnLinux } from "../support/servers.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge } from "./oracle.ts";

let hub: Hub;
afterEach(() => hub.close());

describe.skipIf(missingOnLinux("TEST_FAKETIME")).each([
  ["the web process an hour ahead", "+1h", undefined],
  ["the web process an hour behind", "-1h", undefined],
  ["the worker an hour ahead", undefined, "+1h"],
  ["the worker an hour behind", undefined, "-1h"],
])("%s", (_which, webClock, workerClock) => {
  test("nothing expires early, nothing waits for an hour, and each upload is there once", async () => {
    // As in production: what belongs to nothing is kept for a day.
    hub = await openHub({ settings: { ORPHAN_AGE_SECONDS: "86400" } });
    await hub.web.start({}, webClock ? { clock: webClock } : {});
    await hub.worker.start({}, workerClock ? { clock: workerClock } : {});
    const slow = beginSlowUpload(hub.web.url);
    const crowd = openCrowd({ urls: hub.urls, keyless: 0.5 });
    await crowd.more(100);
    await hub.worker.kill();
    await crowd.more(30);
    await hub.redis.del(hub.stream); // a loss that only the reconciler makes good, by the age of what waits
    await hub.worker.start({}, workerClock ? { clock: workerClock } : {});
    await crowd.more(30);
    const receipt = await slow.finish();
    crowd.acknowledged.set(receipt.id, receipt);
    await crowd.stop();
    await judge(hub, { crowds: [crowd], orphansLater: true }); // for a day
    const [found] = await hub.sql<{ early: number; late: number }>(
      `select extract(epoch from min(event_time) - now())::int as early, extract(epoch from max(event_time) - now())::int as late from file_events`);
    const hours = webClock === "+1h" ? 3_600 : webClock === "-1h" ? -3_600 : 0;
    expect(Math.abs(found!.early - hours)).toBeLessThan(1_200);
    expect(Math.abs(found!.late - hours)).toBeLessThan(1_200);
  });
});

/** An upload that is under way while all of this happens, its first half on the disk already. */
function beginSlowUpload(url: string) {
  const half = Buffer.alloc(1_000_000, "slow but alive ");
  const upload = request(`${url}/api/upload/slow.bin`, { method: "PUT", headers: { "Content-Length": 2 * half.length, "Idempotency-Key": "the slow one" } });
  const answer = new Promise<{ file_id: string; sha256: string; size: number; stream_id: string | null }>((resolve, reject) => {
    upload.on("error", reject).on("response", (response) => {
      let text = "";
      response.on("data", (chunk) => (text += chunk)).on("end", () => resolve(JSON.parse(text)));
    });
  });
  upload.write(half);
  return {
    async finish() {
      upload.end(half);
      const { file_id, sha256, size, stream_id } = await answer;
      return { id: file_id, sha256, sizeBytes: size, streamId: stream_id };
    },
  };
}
