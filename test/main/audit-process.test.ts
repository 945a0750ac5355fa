import { expect, test } from "vitest";
import { createAudit } from "../../src/uploads/audit/audit.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { useProcesses } from "../support/processes.ts";

const { world, start, startWeb } = useProcesses();

const balanced = { files: 0, bytes: 0 };

test("web processes killed with kill -9 amid uploads, and a worker as well, are no false alarm, and nothing is uncounted", async () => {
  const audit = createAudit(world().context);
  const differences: unknown[] = [];
  const wrongNow = async () => {
    const { difference, surplus } = await audit.read();
    return [difference, surplus];
  };
  let webs = await Promise.all([startWeb(), startWeb()]);
  let worker = start("worker");
  let acknowledged = 0;
  let next = 0;
  async function client(number: number) {
    for (let i = next++; i < 600; i = next++) {
      const headers = { "Idempotency-Key": `upload-${i}` }; // as a sane client does: again under the same key until it is acknowledged
      await eventually(async () => {
        const response = await fetch(`${webs[number % 2]!.url}/api/upload/${i}.txt`, { method: "PUT", body: `upload number ${i}`, headers });
        return response.status;
      }, 202, 30_000);
      acknowledged++;
      if (i === 150 || i === 400) {
        const at = i === 150 ? 0 : 1;
        webs[at]!.kill("SIGKILL");
        const another = await startWeb();
        webs = webs.with(at, another) as typeof webs;
      }
      if (i === 300) {
        worker.kill("SIGKILL");
        worker = start("worker");
      }
      if (i % 20 === 0) differences.push(await wrongNow());
    }
  }
  await Promise.all(Array.from({ length: 8 }, (_, number) => client(number)));
  await eventually(() => world().ledger(), 600, 30_000);
  for (const web of webs) web.kill("SIGTERM"); // each writes its tally a last time
  expect(await Promise.all(webs.map(({ exit }) => exit))).toEqual([0, 0]);
  await eventually(async () => (await audit.read()).inFlight, { files: 0, bytes: 0 });
  differences.push(await wrongNow());
  expect(differences).toEqual(differences.map(() => [balanced, balanced]));
  expect(differences.length).toBeGreaterThan(30);
  expect(acknowledged).toBe(600);
  const { acknowledged: counted, stored } = await audit.read();
  expect([counted!.files, stored.files]).toEqual([600, 600]);
  expect(await world().sql("select sum(size_bytes)::bigint as bytes from files")).toEqual([{ bytes: counted!.bytes }]);
}, 90_000);

test("the tally of a web process that was told to stop is exact, and says so", async () => {
  const web = await startWeb();
  for (let i = 0; i < 5; i++) await fetch(`${web.url}/api/upload/${i}.txt`, { method: "PUT", body: "12345" });
  web.kill("SIGTERM");
  expect(await web.exit).toBe(0);
  const { store } = world().context.inbox;
  const [tally, ...others] = await store.list("tallies/", { limit: 10 });
  expect(others).toEqual([]);
  expect(JSON.parse(Buffer.from((await store.readWhole(tally!.key))!).toString())).toEqual({ files: 5, bytes: 25, unsure_files: 0, unsure_bytes: 0, closed: true });
});

test("an upload that took the place of a damaged record, after its web process was started anew, is one upload", async () => {
  const send = async (url: string) => (await fetch(`${url}/api/upload/a.txt`, { method: "PUT", body: "12345", headers: { "Idempotency-Key": "k" } })).status;
  const audit = createAudit(world().context);
  const { store } = world().context.inbox;
  const first = await startWeb();
  expect(await send(first.url)).toBe(202);
  first.kill("SIGTERM");
  expect(await first.exit).toBe(0);
  const [manifest] = await store.list("manifests/", { limit: 1 });
  await store.put(manifest!.key, Buffer.from("rotten"));
  expect((await audit.read()).difference).toEqual({ files: 1, bytes: 5 });
  const second = await startWeb();
  expect(await send(second.url)).toBe(202);
  const one = { difference: balanced, surplus: balanced, acknowledged: { files: 1, bytes: 5 } };
  expect(await audit.read()).toMatchObject({ ...one, inFlight: { files: 1 } });
  await world().settleAll();
  expect(await audit.read()).toMatchObject({ ...one, stored: { files: 1 } });
});
