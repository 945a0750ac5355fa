import { createHash, randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { sendByTusJs } from "../support/tus-client.ts";
import { fetch } from "../support/fetch.ts";
import { tusAt } from "../support/tus.ts";
import type { Acknowledgement } from "./crowd.ts";
import { openHub, type Hub } from "./hub.ts";
import { judge, type Clients } from "./oracle.ts";

const KILLS = process.env.FAULTS === "long" ? 40 : 6;
const CLIENTS = 4;

/** Clients of tus-js-client, which goes on where it was, by itself: in one request, in chunks, in parts side by side. */
function openTusCrowd(urls: string[]) {
  const acknowledged = new Map<string, Acknowledgement>();
  const refusals: string[] = [];
  let stopping = false;
  let resumed = 0;
  const running = Array.from({ length: CLIENTS }, (_, index) => run(index));

  async function run(index: number): Promise<void> {
    for (let count = index; !stopping; count++) {
      const bytes = randomBytes(200_000 + Math.floor(Math.random() * 3_000_000));
      const way = [{}, { chunkSize: 300_000 }, { parallelUploads: 4 }, { chunkSize: 90_000, uploadLengthDeferred: false }][count % 4]!;
      try {
        const { location } = await sendByTusJs(urls[count % urls.length]!, bytes, {
          ...way, onShouldRetry: () => { resumed++; return true; },
        });
        const id = location.split("/").at(-1)!;
        acknowledged.set(id, { id, sha256: createHash("sha256").update(bytes).digest("hex"), sizeBytes: bytes.length, streamId: null });
      } catch (error) {
        refusals.push(String(error));
      }
    }
  }
  return {
    acknowledged, refusals: () => refusals, unknown: () => 0, resumed: () => resumed,
    async more(count: number) {
      const goal = acknowledged.size + count;
      await eventually(() => acknowledged.size >= goal, true, 60_000);
    },
    async stop() {
      stopping = true;
      await Promise.all(running);
    },
  } satisfies Clients & Record<string, unknown>;
}

describe.each([["a disk", {}], ["a bucket", { INBOX: "s3" }]] as const)("resumable uploads to an inbox on %s", (_where, settings) => {
  let hub: Hub;
  beforeAll(async () => {
    hub = await openHub({ settings });
    await hub.start();
  });
  afterAll(() => hub.close());

  test("are lost by no kill of the web process, and none is there twice", async () => {
    const crowd = openTusCrowd(hub.urls);
    for (let kill = 0; kill < KILLS; kill++) {
      await pause(400 + Math.random() * 600); // somewhere in the middle of whatever they are at
      await hub.web.restart();
    }
    await crowd.more(CLIENTS);
    await crowd.stop();
    expect(crowd.resumed()).toBeGreaterThan(KILLS);
    await judge(hub, { crowds: [crowd] });
  });

  test("keep every offset that was told, whenever the web process is killed", async () => {
    const tus = tusAt(hub.urls[0]!);
    const bytes = randomBytes(6_000_000);
    const { location } = await tus.create({ "Upload-Length": String(bytes.length) });
    let told = 0;
    while (told < bytes.length) {
      const next = Math.min(told + 700_000, bytes.length);
      const answer = await tus.patch(location, told, bytes.subarray(told, next));
      expect(answer.status).toBe(204);
      await hub.web.restart();
      expect(await tus.offset(location)).toBe(next);
      told = next;
    }
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const id = tus.idOf(location);
    expect(await (await fetch(`${hub.urls[0]}/api/files/${id}/status`)).json()).toMatchObject({ sha256 });
    await judge(hub, { crowds: [{ acknowledged: new Map([[id, { id, sha256, sizeBytes: bytes.length, streamId: null }]]), refusals: () => [], unknown: () => 0 }] });
  });
});
