import { afterEach, beforeEach, expect, test } from "vitest";
import { fetch } from "../support/fetch.ts";
import { findGrowth, footprintOf, type Footprint } from "../support/footprint.ts";
import { openS3FaultProxy } from "../support/s3-fault-proxy.ts";
import { servers } from "../support/servers.ts";
import { openCrowd } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, takeBaseline } from "./oracle.ts";

/** Garbage. Seen are 35 MiB; bodies that were kept would be 95 and 140 more. */
const MORE_MEMORY_KB = 60 * 1024;
const WARM_UP = 100;

let proxy: Awaited<ReturnType<typeof openS3FaultProxy>>;
let hub: Hub;
beforeEach(async () => {
  proxy = await openS3FaultProxy(servers.s3().endpoint);
  hub = await openHub({ settings: { INBOX: "s3", STORAGE_MODE: "s3", S3_TIMEOUT_SECONDS: "1" }, through: { s3: new URL(proxy.endpoint).host } });
  await hub.start();
});
afterEach(async () => {
  await hub.close();
  await proxy.close();
});

test.each([
  ["small uploads", { sizeBytes: 250_000, atOnce: 48, count: 400 }],
  ["large uploads", { sizeBytes: 1_000_000, atOnce: 16, count: 150 }],
])("with inbox and storage in an S3 that never answers, %s keep coming and are refused, and nothing of them stays in memory", async (_what, uploads) => {
  const crowd = openCrowd({ urls: hub.urls, clients: 4, sizes: [uploads.sizeBytes] });
  await crowd.more(20);
  takeBaseline(hub);
  proxy.set({ hang: true });
  const before = await peaksAmidRefusals({ ...uploads, count: WARM_UP });
  const peaks = await peaksAmidRefusals(uploads);
  expect(peaks.flatMap((peak, index) => findGrowth(before[index]!, peak, { memoryKb: MORE_MEMORY_KB, descriptors: 0 }))).toEqual([]);
  proxy.set({});
  await crowd.stop();
  await judge(hub, { crowds: [crowd] });
});

/** The most that web and worker held, each, while so many uploads came and were refused: all of their bytes, and not at the door. */
async function peaksAmidRefusals({ sizeBytes, atOnce, count }: { sizeBytes: number; atOnce: number; count: number }): Promise<Footprint[]> {
  const peaks = hub.slots.map(() => ({ memoryKb: 0, descriptors: 0 }));
  const body = Buffer.alloc(sizeBytes, "refused ");
  let next = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let i = next++; i < count; i = next++) {
      const answer = await fetch(`${hub.web.url}/api/upload/${i}.bin`, { method: "PUT", body });
      expect([answer.status, (await answer.json()).code]).toEqual([503, "UNAVAILABLE"]);
      hub.slots.forEach((slot, index) => (peaks[index]!.memoryKb = Math.max(peaks[index]!.memoryKb, footprintOf(slot.program()!).memoryKb)));
    }
  }));
  return peaks;
}
