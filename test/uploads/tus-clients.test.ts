import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { DetailedError } from "tus-js-client";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Unavailable } from "../../src/core/errors.ts";
import { openBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { openFaultProxy } from "../support/fault-proxy.ts";
import { sendByTusJs } from "../support/tus-client.ts";
import { checksum, sha256, tusAt } from "../support/tus.ts";
import { inboxKeys, openWorld, type World } from "../support/world.ts";

const run = promisify(execFile);

let world: World;
let tus: ReturnType<typeof tusAt>;
let folder: string;
beforeAll(async () => {
  world = await openWorld({ SMALL_OBJECT_BYTES: "10000" });
  tus = tusAt(world.url);
  folder = await mkdtemp(join(tmpdir(), "connectstorm-clients-"));
});
afterAll(async () => {
  await world.close();
  await rm(folder, { recursive: true });
});

async function assertStored(location: string, bytes: Uint8Array, filename = "sent.bin"): Promise<void> {
  await world.settleAll();
  expect(await (await fetch(`${world.url}/api/files/${tus.idOf(location)}/status`)).json()).toMatchObject({ status: "stored", filename, sha256: sha256(bytes) });
}

test.each([
  ["in one request", 400_000, {}], ["in chunks", 400_000, { chunkSize: 70_000 }], ["with its creation", 5_000, { uploadDataDuringCreation: true }],
  ["with its creation, in chunks", 400_000, { uploadDataDuringCreation: true, chunkSize: 150_000 }], ["as four parts side by side", 900_001, { parallelUploads: 4 }],
  ["by methods that every proxy knows", 50_000, { overridePatchMethod: true }],
])("tus-js-client hands a file in %s", async (_how, sizeBytes, options) => {
  const bytes = tus.bytes(sizeBytes);
  const { location } = await sendByTusJs(world.url, bytes, options);
  await assertStored(location, bytes);
  expect(await inboxKeys(world)).toEqual([]);
});

test("tus-js-client goes on where a connection broke, each time farther on", async () => {
  const proxy = await openFaultProxy({ host: "127.0.0.1", port: Number(new URL(world.url).port) });
  proxy.set({ bytesPerSecond: 4_000_000 });
  const bytes = tus.bytes(3_000_000);
  const offsets: number[] = [];
  const breaking = setInterval(() => {
    proxy.set({ down: true });
    setTimeout(() => proxy.set({ bytesPerSecond: 4_000_000 }), 30);
  }, 250);
  const { location } = await sendByTusJs(`http://127.0.0.1:${proxy.port}`, bytes, {
    onAfterResponse: (request, response) => void (request.getMethod() === "HEAD" && offsets.push(Number(response.getHeader("Upload-Offset")))),
  });
  clearInterval(breaking);
  await proxy.close();
  expect(offsets.length).toBeGreaterThanOrEqual(3);
  expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
  expect(offsets.at(-1)).toBeGreaterThan(1_000_000);
  await assertStored(location, bytes);
});

test("another run of tus-js-client goes on with an upload that an earlier one was killed in", async () => {
  const bytes = tus.bytes(2_000_000);
  let first: string | null = null;
  await new Promise<void>((resolve) => {
    void sendByTusJs(world.url, bytes, {
      chunkSize: 200_000,
      onChunkComplete(_size, accepted) {
        if (accepted < 600_000) return;
        void underWay.abort();
        first = underWay.url;
        resolve();
      },
    }, (upload) => (underWay = upload)).catch(() => {});
  });
  const offset = await tus.offset(new URL(first!).pathname);
  expect(offset).toBeGreaterThanOrEqual(600_000);
  const chunks: number[] = [];
  const { location } = await sendByTusJs(world.url, bytes, { uploadUrl: first!, chunkSize: 200_000, onChunkComplete: (size) => void chunks.push(size) });
  expect(new URL(first!).pathname).toBe(location);
  expect(chunks.reduce((sum, size) => sum + size, 0)).toBe(bytes.length - offset);
  await assertStored(location, bytes);
});
let underWay: { abort(terminate?: boolean): Promise<void>; url: string | null };

test("tus-js-client waits for an inbox that is away, and hands in no second file", async () => {
  const { partials } = world.context;
  const { change, find } = partials;
  const away = async () => { throw new Unavailable("inbox"); };
  partials.change = async (partial, changes) => {
    if (changes.state !== "finished") return change(partial, changes);
    [partials.change, partials.find] = [away, away]; // promised, and then
    setTimeout(() => ([partials.change, partials.find] = [change, find]), 300);
    return away();
  };
  const before = await world.ledger();
  const bytes = tus.bytes(300_000);
  const { location } = await sendByTusJs(world.url, bytes, { chunkSize: 100_000 });
  await assertStored(location, bytes);
  expect(await world.ledger()).toBe(before + 1);
});

test("tus-js-client is told 460 when the bytes are not those of its checksum", async () => {
  const bytes = tus.bytes(50_000);
  const failed = await sendByTusJs(world.url, bytes, { headers: { "Upload-Checksum": checksum("sha1", tus.bytes(10)) }, retryDelays: [] }).catch((error: DetailedError) => error);
  expect((failed as DetailedError).originalResponse?.getStatus()).toBe(460);
});

test("tus-js-client aborts and terminates, and nothing is left of it", async () => {
  const bytes = tus.bytes(2_000_000);
  await new Promise<void>((resolve, reject) => {
    void sendByTusJs(world.url, bytes, {
      chunkSize: 300_000, onChunkComplete: (_size, accepted) => void (accepted === 300_000 && underWay.abort(true).then(resolve, reject)),
    }, (upload) => (underWay = upload));
  });
  expect((await tus.head(new URL(underWay.url ?? `${world.url}/api/uploads/x`).pathname)).status).toBe(404);
  await eventually(() => inboxKeys(world), []);
});

/** As one script that sets a global. */
async function bundle(source: string, name: string): Promise<string> {
  const built = await build({
    root: join(import.meta.dirname, "../.."), logLevel: "silent", configFile: false,
    plugins: [{ name: "entry", resolveId: (id) => (id.endsWith("entry-of-the-bundle") ? join(import.meta.dirname, "entry-of-the-bundle.js") : undefined), load: (id) => (id.endsWith("entry-of-the-bundle.js") ? source : undefined) }],
    build: { write: false, lib: { entry: "entry-of-the-bundle", formats: ["iife"], name } },
  });
  return ([built].flat()[0] as { output: { code: string }[] }).output[0]!.code;
}

test("curl, by hand, hands a file in as docs/api.md has it", async () => {
  const bytes = tus.bytes(30_000);
  await writeFile(join(folder, "photo.jpg"), bytes);
  const say = (line: string) => run("sh", ["-c", line], { cwd: folder }).then(({ stdout }) => stdout);
  const name = Buffer.from("photo.jpg").toString("base64");
  const created = await say(`curl -sS -i -X POST ${world.url}/api/uploads -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: ${bytes.length}' -H 'Upload-Metadata: filename ${name}'`);
  const location = /^Location: (\S+)/im.exec(created)![1]!;
  await say(`head -c 10000 photo.jpg | curl -sS -i -X PATCH ${world.url}${location} -H 'Tus-Resumable: 1.0.0' -H 'Upload-Offset: 0' -H 'Content-Type: application/offset+octet-stream' --data-binary @-`);
  const head = await say(`curl -sS -I ${world.url}${location} -H 'Tus-Resumable: 1.0.0'`);
  expect(head).toMatch(/^Upload-Offset: 10000\r$/im);
  const rest = await say(`tail -c +10001 photo.jpg | curl -sS -i -X PATCH ${world.url}${location} -H 'Tus-Resumable: 1.0.0' -H 'Upload-Offset: 10000' -H 'Content-Type: application/offset+octet-stream' -H 'Expect: 100-continue' -T -`);
  expect(rest).toMatch(/204 No Content/);
  await assertStored(location, bytes, "photo.jpg");
});

test("Uppy, in Chromium, hands files in", async () => {
  const script = await bundle('export { default as Uppy } from "@uppy/core"; export { default as Tus } from "@uppy/tus";', "uppy");
  const browser = await openBrowser();
  try {
    const page = await browser.newPage();
    await page.setBypassCSP(true);
    await page.goto(`${world.url}/nothing-here`); // any page of ours will do
    await page.evaluate(script + "; globalThis.uppy = uppy;");
    const { locations, failed } = await page.evaluate(`(async () => {
      const { Uppy, Tus } = globalThis.uppy;
      const uppy = new Uppy().use(Tus, { endpoint: "/api/uploads", chunkSize: 100000 });
      for (const [name, size] of [["one.bin", 5000], ["two.bin", 350000]]) uppy.addFile({ name, type: "application/x-test", data: new Blob([new Uint8Array(size).fill(7)]) });
      const { successful, failed } = await uppy.upload();
      return { locations: successful.map(({ name, uploadURL }) => [name, new URL(uploadURL, location.href).pathname]), failed: failed.length };
    })()`) as { locations: [string, string][]; failed: number };
    expect([locations.length, failed]).toEqual([2, 0]);
    for (const [name, location] of locations) await assertStored(location, new Uint8Array(name === "one.bin" ? 5_000 : 350_000).fill(7), name);
  } finally {
    await browser.close();
  }
});
