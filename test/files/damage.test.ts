import { describe, expect, test, beforeEach, afterEach } from "vitest";
import { startProgram } from "../support/program.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openWorld, type World } from "../support/world.ts";
import { download, events, ROTS, scrubOf, storeTwice } from "./rot.ts";

describe.each(ROTS)("$what", ({ settings, sizeBytes, problem, rot, everyWay = false }) => {
  let world: World;
  let stored: Awaited<ReturnType<typeof storeTwice>>;
  beforeEach(async () => {
    world = await openWorld(settings);
    stored = await storeTwice(world, sizeBytes); // settling the second file has just read the object, and found it good
    await rot(world, stored.key);
  });
  afterEach(() => world.close());

  const known = () => world.sql("select storage_key, problem, found_by from damaged_objects");
  const totals = async () => (await world.sql("select records, size_bytes from ledger_totals"))[0];
  const damaged = () => [`0 damaged ${problem}`, "0 stored", `1 damaged ${problem}`, "1 stored"];

  async function expectRecorded(foundBy: string) {
    await eventually(known, [{ storage_key: stored.key, problem, found_by: foundBy }]);
    expect(await events(world, stored.ids)).toEqual(damaged());
    expect(await totals()).toEqual({ records: 4, size_bytes: 2 * sizeBytes });
    expect((await (await fetch(`${world.url}/api/counts`)).json()).damaged).toBe(1);
  }

  /** As the metadata and the list tell of both files. */
  async function expectShown(isDamaged: boolean) {
    for (const id of stored.ids) {
      const response = await fetch(`${world.url}/api/files/${id}`, { headers: { Accept: "application/json" } });
      expect([response.status, await response.json()]).toEqual([200, expect.objectContaining({ id, damaged: isDamaged })]);
    }
    const { files } = await (await fetch(`${world.url}/api/files`)).json();
    expect(files.filter(({ id }: { id: string }) => stored.ids.includes(id)).map(({ damaged }: { damaged: boolean }) => damaged)).toEqual([isDamaged, isDamaged]);
  }

  test("is never served whole as good, is recorded, and then refused at once", async () => {
    await expectShown(false);
    expect((await download(world, stored.ids[0]!, {}, "HEAD")).status).toBe(200); // nobody knows yet, and HEAD reads nothing
    const answer = await download(world, stored.ids[0]!);
    if (answer.status === 200) {
      expect(answer.complete).toBe(false);
      expect(answer.body.length).toBeLessThan(sizeBytes);
    } else expect([answer.status, JSON.parse(answer.body.toString()).code]).toEqual([502, "FILE_DAMAGED"]);
    await expectRecorded("download");
    for (const [id, method] of [[stored.ids[0]!, "GET"], [stored.ids[1]!, "GET"], [stored.ids[1]!, "HEAD"]] as const) {
      expect((await download(world, id, {}, method)).status).toBe(502);
    }
    expect((await download(world, stored.ids[1]!, { Range: "bytes=0-3" })).status).toBe(502);
    await expectShown(true);
    await world.context.damage.stop();
    expect(await events(world, stored.ids)).toEqual(damaged());
  });

  if (everyWay || sizeBytes > 1_000_000) test("is not served in part either, wherever the part lies", async () => {
    const parts: [string, number, number][] = [["bytes=0-3", 0, 3], ["bytes=10-19", 10, 19], ["bytes=-3", sizeBytes - 3, sizeBytes - 1], ["bytes=1-", 1, sizeBytes - 1]];
    for (const [Range, first, last] of parts) {
      const answer = await download(world, stored.ids[0]!, { Range });
      const right = stored.bytes.subarray(first, last + 1);
      if (answer.status === 206) expect(right.subarray(0, answer.body.length).equals(answer.body)).toBe(true); // of a block that is good
      else expect([answer.status, JSON.parse(answer.body.toString()).code]).toEqual([502, "FILE_DAMAGED"]);
      if (Range === "bytes=1-") expect(answer.status === 206 && answer.complete).toBe(false);
    }
    await expectRecorded("download");
  });

  test("is found by the scrub, told once, and is good again when the same bytes are handed in", async () => {
    const clock = { now: () => new Date(Date.now() + hours * 3_600_000) };
    let hours = 0;
    expect(await scrubOf(world, { clock }).runOnce()).toMatchObject({ objects: 1, sizeBytes, damaged: 1, endedAt: expect.any(Date) });
    await expectRecorded("scrub");
    hours = 2;
    expect(await scrubOf(world, { clock }).runOnce()).toMatchObject({ objects: 1, damaged: 1 });
    await expectRecorded("scrub");

    const again = await (await world.put("again.bin", stored.bytes)).json();
    await world.settleAll();
    for (const id of [...stored.ids, again.file_id]) {
      const answer = await download(world, id);
      expect([answer.status, answer.body.equals(stored.bytes)]).toEqual([200, true]);
    }
    expect((await download(world, stored.ids[0]!, { Range: "bytes=-3" })).body).toEqual(stored.bytes.subarray(-3));
    expect(await known()).toEqual([]);
    await expectShown(false);
    expect(await events(world, stored.ids)).toEqual([
      `0 damaged ${problem}`, "0 repaired the same bytes were handed in again", "0 stored",
      `1 damaged ${problem}`, "1 repaired the same bytes were handed in again", "1 stored"]);
    expect(await events(world, [again.file_id])).toEqual(["0 stored"]);
    expect(await totals()).toEqual({ records: 7, size_bytes: 3 * sizeBytes });
    expect(await world.context.inbox.store.list("manifests/", { limit: 10 })).toEqual([]);
    hours = 4;
    expect(await scrubOf(world, { clock }).runOnce()).toMatchObject({ objects: 1, damaged: 0 });
  });

  if (everyWay) test("that nobody noticed is told and mended by the upload of the same bytes", async () => {
    const again = await (await world.put("again.bin", stored.bytes)).json();
    await world.settleAll();
    expect((await download(world, again.file_id)).body.equals(stored.bytes)).toBe(true);
    expect(await events(world, stored.ids)).toHaveLength(6);
    expect(await known()).toEqual([]);
    expect(await world.context.storage.list("sha256/", { limit: 10 })).toHaveLength(1);
  });

  if (everyWay) test("is named by npm run verify with its files, and not once it is whole again", async () => {
    const verify = () => startProgram("verify", world.env as Record<string, string>);
    const first = verify();
    expect(await first.exit).toBe(1);
    expect(first.output()).toMatch(new RegExp(`^damaged: ${stored.key} \\(${problem}: .*\\); files: ${stored.ids.join(", ")}$`, "m"));
    expect(first.output()).toMatch(/Damage was found: 1 objects, \d+ bytes in [\d.]+ s, 1 damaged\./);
    await expectRecorded("verify");
    expect(await verify().exit).toBe(1);
    await expectRecorded("verify");
    await world.context.storage.put(stored.key, stored.bytes); // as a back-up does, past all of us
    const last = verify();
    expect(await last.exit).toBe(0);
    expect(last.output()).toMatch(/All is well/);
    expect(await known()).toEqual([]);
    expect((await events(world, stored.ids)).filter((event) => event.includes("repaired"))).toHaveLength(2);
    expect((await download(world, stored.ids[0]!)).body.equals(stored.bytes)).toBe(true);
  });
});
