import { describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { useProcesses } from "../support/processes.ts";
import { inboxKeys } from "../support/world.ts";

const { world, start } = useProcesses();

describe("the worker process", () => {
  test("killed with kill -9 again and again amid a thousand uploads, has each of them in the ledger exactly once", async () => {
    const ids: string[] = [];
    let worker = start("worker");
    let next = 0;
    async function client() {
      for (let i = next++; i < 1_000; i = next++) {
        const response = await world().put(`${i}.txt`, `upload number ${i}`);
        expect(response.status).toBe(202);
        ids.push((await response.json()).file_id);
        if (i % 250 === 125) {
          await eventually(async () => (await world().ledger()) > 0, true);
          worker.kill("SIGKILL");
          worker = start("worker");
        }
      }
    }
    await Promise.all(Array.from({ length: 8 }, client));
    await eventually(() => world().ledger(), 1_000, 30_000);
    const rows = await world().sql<{ file_id: string }>("select file_id from file_events");
    expect(new Set(rows.map(({ file_id }) => file_id))).toEqual(new Set(ids));
    await eventually(() => world().redis.xlen(world().stream), 0);
    expect(await world().sql("select records from ledger_totals")).toEqual([{ records: 1_000 }]);
    expect(await world().sql("select upload_id from dead_letters")).toEqual([]);
    await eventually(() => inboxKeys(world()), []);
  }, 120_000);

  test("stops on SIGTERM with the batch in hand settled, and gives its name back", async () => {
    const worker = start("worker");
    await worker.says(/settling/);
    await Promise.all(Array.from({ length: 50 }, (_, i) => world().put(`${i}.txt`, `${i}`)));
    worker.kill("SIGTERM");
    expect(await worker.exit).toBe(0);
    expect(await world().ledger() + await world().redis.xlen(world().stream)).toBe(50);
    expect((await world().redis.xpending(world().stream, "settlers"))[0]).toBe(0);
    expect(await world().redis.xinfo("CONSUMERS", world().stream, "settlers")).toEqual([]);
  });
});
