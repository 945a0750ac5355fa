import { createHash, randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FailpointName } from "../../src/core/failpoints.ts";
import { fetch } from "../support/fetch.ts";
import { openHub, type Hub } from "./hub.ts";
import { startDoomed } from "./kill-sweeps.ts";
import { judge, type Clients } from "./oracle.ts";

/**
 * Dead letters by real damage, and a process killed at every step of what is decided about them. Whoever asked gets no
 * answer then, and asks again, as a sane client does.
 */
const LONG = process.env.FAULTS === "long";
const ROUNDS = LONG ? 5 : 1;
const SMALL = 900; // in the inbox's record
const LARGE = 300_000; // an object of its own

interface Letter {
  id: string;
  key: string;
  bytes: Buffer;
  sha256: string;
}

describe.each([
  ["on disk", {}, LONG ? [SMALL, LARGE] : [LARGE]],
  ["in S3", { INBOX: "s3", STORAGE_MODE: "s3" }, LONG ? [SMALL, LARGE] : [SMALL]],
] as const)("with inbox and storage %s", (_where, settings, sizes) => {
  let hub: Hub;
  const client: Clients = { acknowledged: new Map(), refusals: () => [], unknown: () => 0 };
  beforeAll(async () => {
    hub = await openHub({ settings });
    await hub.start();
  });
  afterAll(() => hub.close());

  const rounds = <T>(cases: readonly T[]) => Array.from({ length: ROUNDS }, () => cases).flat();
  const each = <T>(steps: readonly T[]) => rounds(sizes.flatMap((size) => steps.map((step) => [step, size] as const)));

  describe("web killed as good bytes take the place of damaged ones", () => {
    test.each(each<FailpointName>(["bytes-replaced", "dead-letter-healed", "manifest-committed", "entry-appended"]))(
      "at %s, %i bytes: sent again, they are stored once, as accepted the first time", async (step, size) => {
        const [letter] = await makeDead(size);
        const before = await statusOf(letter!.id);
        await killed(step, () => send(letter!));
        await handIn(letter!);
        await judge(hub, { crowds: [client], orphansLater: true });
        expect(await statusOf(letter!.id)).toMatchObject({ status: "stored", accepted_at: before.accepted_at });
      });

    test.each(each(["retried", "discarded"] as const))("at bytes-replaced, and then the letter is %s, %i bytes", async (decision, size) => {
      const [letter] = await makeDead(size);
      await killed("bytes-replaced", () => send(letter!));
      if (decision === "retried") expect(await ask(`/${letter!.id}/retry`, "POST")).toBe(202);
      else await discard(letter!);
      await judge(hub, { crowds: [client], orphansLater: true });
    });
  });

  describe("web killed as dead letters are retried", () => {
    const letters = () => makeDead(LARGE, SMALL, LARGE, SMALL);
    /** Half of them good by now: these are stored, and the others dead letters once more. */
    async function settledOrDeadAgain([good, fine, ...bad]: Letter[], decide: () => Promise<void>): Promise<void> {
      await hub.damageInbox(good!.id);
      await hub.damageInbox(fine!.id);
      await decide();
      await judge(hub, { crowds: [client], deadLetters: bad.map(({ id }) => id), orphansLater: true });
      expect(await hub.sql("select attempts, code from dead_letters")).toEqual(bad.map(() => ({ attempts: 3, code: "INBOX_BYTES_DAMAGED" })));
      for (const letter of bad) await discard(letter);
    }

    test.each(rounds<FailpointName>(["dead-letters-raised"]))("one by one at %s: each is settled or a dead letter again", async (step) => {
      const all = await letters();
      await settledOrDeadAgain(all, async () => {
        for (const { id } of all) {
          await killed(step, () => ask(`/${id}/retry`, "POST"));
          expect([202, 404]).toContain(await ask(`/${id}/retry`, "POST")); // raised it is, or a dead letter again
        }
      });
    });

    test.each(rounds<FailpointName>(["dead-letters-raised"]))("all at once at %s: each is settled or a dead letter again", async (step) => {
      const all = await letters();
      await settledOrDeadAgain(all, async () => {
        await killed(step, () => ask("/retry", "POST"));
        expect(await ask("/retry", "POST")).toBe(200);
      });
    });
  });

  describe("web killed as a dead letter is discarded", () => {
    test.each(each<FailpointName>(["manifests-removed", "bytes-discarded", "dead-letter-discarded"]))(
      "at %s, %i bytes: it is gone, counted once, and does not come back", async (step, size) => {
        const [letter] = await makeDead(size);
        const { id } = letter!;
        const [{ message } = {}] = await hub.sql("select message from dead_letters where upload_id = $1", [id]);
        const before = await discarded();
        await killed(step, () => ask(`/${id}`, "DELETE"));
        const again = await ask(`/${id}`, "DELETE");
        expect(again).toBe(step === "dead-letter-discarded" ? 404 : 204);
        client.acknowledged.delete(id);
        await hub.redis.xadd(hub.stream, "*", "key", id, "body", JSON.stringify(message)); // as from a worker that stood still
        await judge(hub, { crowds: [client], orphansLater: true });
        expect(await hub.sql("select event from file_events where file_id = $1", [id])).toEqual([{ event: "discarded" }]);
        expect(await discarded()).toBe(before + 1);
      });
  });

  describe("the worker killed as good bytes take the place of a damaged object", () => {
    test.each(each<FailpointName>(["damage-recorded", "object-replaced"]))("at %s, %i bytes: it is good, and told once", async (step, size) => {
      const bytes = randomBytes(size);
      const first = await handIn(letterOf(bytes));
      await judge(hub, { crowds: [client], orphansLater: true });
      await hub.damageStored(first.sha256);
      const doomed = await startDoomed(hub.worker, step);
      const second = await handIn(letterOf(bytes));
      await doomed.died();
      await hub.worker.start();
      await judge(hub, { crowds: [client], orphansLater: true });
      expect(await hub.sql("select storage_key from damaged_objects")).toEqual([]);
      const told = await hub.sql("select file_id, event from file_events where file_id = any($1::uuid[]) and event <> 'stored' order by event", [[first.id, second.id]]);
      expect(told).toEqual([{ file_id: first.id, event: "damaged" }, { file_id: first.id, event: "repaired" }]);
    });
  });

  test("and in the end nothing is left of all of them, not one orphaned byte", async () => {
    await judge(hub, { crowds: [] });
  });

  function letterOf(bytes: Buffer): Letter {
    return { id: "", key: randomBytes(8).toString("hex"), bytes, sha256: createHash("sha256").update(bytes).digest("hex") };
  }

  /** Uploads whose bytes were damaged as they waited. */
  async function makeDead(...sizes: number[]): Promise<Letter[]> {
    await hub.worker.kill();
    const letters: Letter[] = [];
    for (const size of sizes) letters.push(await handIn(letterOf(randomBytes(size))));
    for (const { id } of letters) await hub.damageInbox(id);
    await hub.worker.start();
    await judge(hub, { crowds: [client], deadLetters: letters.map(({ id }) => id), orphansLater: true });
    return letters;
  }

  /** Until there is a 202. */
  async function handIn(letter: Letter): Promise<Letter> {
    for (let attempt = 1; ; attempt++) {
      const answer = await send(letter).catch(() => undefined);
      if (answer?.status === 202) {
        const { file_id: id, sha256 } = await answer.json();
        expect([sha256, letter.id || id]).toEqual([letter.sha256, id]);
        client.acknowledged.set(id, { id, sha256, sizeBytes: letter.bytes.length, streamId: null });
        return { ...letter, id };
      }
      if (attempt === 50) throw new Error(`answered ${answer?.status} again and again`);
      await pause(100);
    }
  }

  /** Web dies there, and whoever had asked is not answered. */
  async function killed(step: FailpointName, request: () => Promise<unknown>): Promise<void> {
    const doomed = await startDoomed(hub.web, step);
    await expect(request()).rejects.toThrow();
    await doomed.died();
    await hub.web.start();
  }

  async function discard({ id }: Letter): Promise<void> {
    expect(await ask(`/${id}`, "DELETE")).toBe(204);
    client.acknowledged.delete(id);
  }

  const send = ({ key, bytes }: Letter) => fetch(`${hub.web.url}/api/upload/a.bin`, { method: "PUT", body: new Uint8Array(bytes), headers: { "Idempotency-Key": key } });
  const ask = async (path: string, method: string) => (await fetch(`${hub.web.url}/api/dead-letters${path}`, { method })).status;
  const statusOf = async (id: string) => (await fetch(`${hub.web.url}/api/files/${id}/status`)).json();
  /** As the audit counts them. */
  const discarded = async () => (await hub.sql<{ files: number }>("select sum(discarded_files)::int as files from acceptances"))[0]!.files;
});
