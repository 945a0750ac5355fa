import { createHash, randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import type { HTTPRequest } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { TUS } from "../support/tus.ts";
import { openUploaderOverLine, type UploadPage } from "../support/upload-page.ts";

const MIB = 1024 * 1024;

let opened: Awaited<ReturnType<typeof openUploaderOverLine>>;
let { world, line, url, uploader } = {} as typeof opened;
let person: UploadPage;
/** What the page asked of /api/uploads: "PATCH 0", "HEAD". */
let asked: string[];
beforeAll(async () => {
  opened = await openUploaderOverLine();
  ({ world, line, url, uploader } = opened);
});
afterAll(() => opened.close());
beforeEach(async () => {
  line.set({});
  person = await uploader.open(url);
  asked = [];
  person.page.on("request", note);
  await person.visit();
});
afterEach(async () => {
  await person.close();
  expect(person.complaints.filter((complaint) => !/Failed to load resource/.test(complaint))).toEqual([]);
});

function note(request: HTTPRequest): void {
  if (!request.url().includes("/api/uploads")) return;
  const offset = request.headers()["upload-offset"];
  asked.push(offset === undefined ? request.method() : `${request.method()} ${offset}`);
}

const state = async (name: string) => (await person.states())[name];
const bytesAt = (name: string) => person.page.$eval(person.inRow(name, '//progress'), (bar) => Number((bar as unknown as { value: number }).value));
const location = async (name: string) => `${world.url}/api/uploads/${await person.idOf(name)}`;
const patches = () => asked.filter((request) => request.startsWith("PATCH")).map((request) => Number(request.split(" ")[1]));

/** In the browser: a slow line behind it would take in megabytes at once, and what the page says is sent would be in its buffers. */
const slow = (bytesPerSecond: number) => person.page.emulateNetworkConditions({ upload: bytesPerSecond, download: -1, latency: 0 });
const fast = () => person.page.emulateNetworkConditions(null);

/** A file on its way over a line so slow that there is time to do something to it. */
async function begin(name: string, sizeBytes = 3 * MIB) {
  const bytes = randomBytes(sizeBytes);
  const path = await uploader.file(name, bytes);
  await slow(MIB / 2);
  await person.choose(path);
  await eventually(async () => (await state(name)) === "sending" && (await bytesAt(name)) > 0.2, true);
  return { path, sha256: createHash("sha256").update(bytes).digest("hex") };
}

async function expectStoredOnce(name: string, sha256: string) {
  await eventually(() => state(name), "received");
  await world.settleAll();
  await eventually(() => state(name), "stored");
  expect(await world.sql("select encode(sha256, 'hex') as sha256 from files where name = $1", [name])).toEqual([{ sha256 }]);
}

describe("a file on its way", () => {
  test("is paused, says how much of it is there, and goes on from there", async () => {
    const { sha256 } = await begin("paused.bin");
    await person.press("paused.bin", "hold");
    await eventually(() => person.textOf("paused.bin"), expect.stringMatching(/Paused .+ of 3 MiB are there/));
    const offset = Number((await fetch(await location("paused.bin"), { method: "HEAD", headers: TUS })).headers.get("upload-offset"));
    expect(offset).toBeGreaterThan(0);
    await eventually(() => person.shown("#files-headline"), "1 file not finished");
    await fast();
    await person.press("paused.bin", "hold");
    await expectStoredOnce("paused.bin", sha256);
    expect(patches()).toEqual([0, offset]);
  });

  test("answers a press with the next frame, not with its next figures", async () => {
    await begin("pressed.bin");
    const seen = await person.page.evaluate(`(async () => {
      const nextFrame = () => new Promise(requestAnimationFrame);
      const row = document.querySelector("[data-upload]");
      const bar = row.querySelector("progress");
      const old = bar.value;
      while (bar.value === old) await nextFrame();
      for (let frame = 0; frame < 6; frame++) await nextFrame(); // 100 ms: more bytes went out, and their figures wait for their turn
      row.querySelector('[data-act="hold"]').click();
      await nextFrame();
      await nextFrame();
      return row.dataset.state;
    })()`);
    expect(seen).toBe("paused");
  });

  test("is cancelled, on the server too", async () => {
    await begin("cancelled.bin");
    const at = await location("cancelled.bin");
    expect((await fetch(at, { method: "HEAD", headers: TUS })).status).toBe(200);
    await person.press("cancelled.bin", "drop");
    await eventually(person.rows, []);
    await eventually(async () => (await fetch(at, { method: "HEAD", headers: TUS })).status, 404);
    await eventually(() => person.page.$eval("#spoken", (region) => region.textContent), "cancelled.bin: cancelled.");
    expect(await person.page.evaluate("localStorage.length")).toBe(0);
  });

  test("loses the network, and goes on by itself when that is back", async () => {
    const { sha256 } = await begin("offline.bin");
    await person.page.setOfflineMode(true);
    await eventually(() => state("offline.bin"), "offline");
    await eventually(async () => (await person.rows())[0]!.trouble, "There is no network.");
    await eventually(() => person.shown("#files-headline"), "Interrupted. It goes on by itself.");
    await fast();
    await person.page.setOfflineMode(false);
    await expectStoredOnce("offline.bin", sha256);
    expect(patches().at(-1)).toBeGreaterThan(0);
  });

  test("is cut off with its server, and goes on by itself when that is back", async () => {
    const { sha256 } = await begin("cut.bin");
    line.set({ down: true });
    await eventually(() => state("cut.bin"), "offline");
    await eventually(async () => (await person.rows())[0]!.trouble, "The server does not answer.");
    await fast();
    line.set({});
    await expectStoredOnce("cut.bin", sha256);
    expect(patches().at(-1)).toBeGreaterThan(0);
  });

  test("is told apart from one that was changed on this device: that is not sent as something it never was", async () => {
    const { path } = await begin("changed.bin");
    await person.press("changed.bin", "hold");
    await writeFile(path, "something else");
    await fast();
    await person.press("changed.bin", "hold");
    await eventually(() => state("changed.bin"), "broken");
    expect((await person.rows())[0]!.trouble).toContain("changed or removed on this device");
    await person.press("changed.bin", "drop");
    await eventually(person.rows, []);
  });
});

describe("a reload", () => {
  test("leaves what was unfinished in the list; the same file chosen again goes on from where it was, another one does not", async () => {
    const { path, sha256 } = await begin("reloaded.bin");
    let warned = false;
    person.page.on("dialog", (dialog) => {
      warned = dialog.type() === "beforeunload";
      void dialog.accept();
    });
    await person.page.click("#uploader_id"); // without any gesture browsers do not ask
    await person.visit();
    await fast();
    expect(warned).toBe(true);
    await eventually(() => state("reloaded.bin"), "paused");
    await eventually(() => person.textOf("reloaded.bin"), expect.stringMatching(/Not finished .+ of 3 MiB are there.*Choose the same file again/));
    const offset = Number((await fetch(await location("reloaded.bin"), { method: "HEAD", headers: TUS })).headers.get("upload-offset"));
    expect(offset).toBeGreaterThan(0);
    asked = [];
    await person.choose(await uploader.file("other/reloaded.bin", "quite another one"));
    await eventually(async () => (await person.rows()).map(({ state }) => state), ["paused", "received"]);
    await person.choose(path);
    await eventually(async () => (await person.rows()).map(({ state }) => state), ["received", "received"]);
    expect(patches()).toEqual([offset]);
    await world.settleAll();
    const hashes = await world.sql("select encode(sha256, 'hex') as sha256 from files where name = 'reloaded.bin' order by size_bytes desc");
    expect(hashes[0]).toEqual({ sha256 });
    await person.visit();
    expect(await person.page.evaluate("localStorage.length")).toBe(0); // nothing is left to go on with
  });

  test("in another tab does not offer what is under way in this one", async () => {
    await begin("one-tab.bin", 12 * MIB); // twenty seconds for the rest
    const tab = await person.page.browserContext().newPage();
    await tab.goto(`${url}/upload`);
    await tab.waitForSelector("#upload[data-live]");
    await eventually(() => tab.evaluate("navigator.locks.query().then(({ held }) => held.length)"), 1);
    expect(await tab.$$("#uploads li")).toEqual([]);
    await tab.close();
    expect(await state("one-tab.bin")).toBe("sending");
  });

  test("leaves what it can no longer go on with out of the list", async () => {
    await begin("gone.bin");
    const at = await location("gone.bin");
    await person.press("gone.bin", "hold");
    await eventually(() => state("gone.bin"), "paused");
    expect((await fetch(at, { method: "DELETE", headers: TUS })).status).toBe(204);
    await fast();
    await person.visit();
    await eventually(() => person.page.evaluate("localStorage.length"), 0);
    expect(await person.rows()).toEqual([]);
  });
});

describe("an answer of the server", () => {
  /** The first requests are answered so; the others pass. */
  async function answerFirst(answers: { status: number; error: string; headers?: Record<string, string> }[]) {
    await person.page.setRequestInterception(true);
    person.page.on("request", (request) => {
      const answer = request.url().includes("/api/uploads") ? answers.shift() : undefined;
      if (!answer) return void request.continue();
      void request.respond({ status: answer.status, contentType: "application/json", headers: answer.headers ?? {}, body: JSON.stringify({ error: answer.error }) });
    });
  }

  test("that passes by itself is shown, and sending goes on", async () => {
    await answerFirst([{ status: 503, error: "As much is under way as the server can take.", headers: { "Retry-After": "4" } }]);
    await person.choose(await uploader.file("busy.txt"));
    await eventually(person.rows, [{ name: "busy.txt", state: "offline", trouble: "As much is under way as the server can take." }]);
    await eventually(person.rows, [{ name: "busy.txt", state: "received", trouble: "" }]);
  });

  test("that is about the file is shown, and sending does not go on; the next file does", async () => {
    await answerFirst([{ status: 415, error: "Accepted here: image/png." }]);
    await person.choose(await uploader.file("refused.txt"));
    await eventually(() => state("refused.txt"), "refused");
    await person.choose(await uploader.file("next.txt"));
    await eventually(person.rows, [{ name: "refused.txt", state: "refused", trouble: "Accepted here: image/png." }, { name: "next.txt", state: "received", trouble: "" }]);
  });

  test("that nobody foresaw is shown, with a button to try again", async () => {
    await answerFirst([{ status: 402, error: "Somebody has to pay first." }]);
    await person.choose(await uploader.file("broken.txt"));
    await eventually(person.rows, [{ name: "broken.txt", state: "broken", trouble: "Somebody has to pay first." }]);
    await person.press("broken.txt", "retry");
    await eventually(() => state("broken.txt"), "received");
  });
});

test("a file that by its name is of another type than is accepted waits for a person to say that it goes all the same", async () => {
  const html = (await (await fetch(`${url}/upload`)).text()).replace('data-allowed-types="[]"', 'data-allowed-types="[&quot;image/*&quot;]"');
  await person.page.setRequestInterception(true);
  person.page.on("request", (request) => void (request.url().endsWith("/upload") ? request.respond({ contentType: "text/html", body: html }) : request.continue()));
  await person.visit();
  await person.choose(await uploader.file("a.txt"), await uploader.file("a.png"));
  await eventually(person.rows, [{ name: "a.txt", state: "refused", trouble: "By its name it is text/plain. Accepted here: image/*." }, { name: "a.png", state: "received", trouble: "" }]);
  await person.press("a.txt", "try");
  await eventually(() => state("a.txt"), "received");
});

test("an upload whose answer was lost is not there twice", async () => {
  line.set({ cutAfterBytes: 0 }); // the request arrives; of the answer not a byte
  await person.choose(await uploader.file("lost-answer.txt", "only once"));
  await eventually(() => state("lost-answer.txt"), "offline");
  line.set({});
  await eventually(() => state("lost-answer.txt"), "received");
  await world.settleAll();
  expect(await world.sql("select name from files where name = 'lost-answer.txt'")).toHaveLength(1);
});

test("three files are under way at a time; pausing and going on is also done for all at once", async () => {
  const files = await Promise.all(Array.from({ length: 5 }, (_, file) => uploader.file(`five-${file}.bin`, randomBytes(2 * MIB))));
  await slow(MIB / 2);
  await person.choose(...files);
  await eventually(async () => Object.values(await person.states()), ["sending", "sending", "sending", "waiting", "waiting"]);
  await eventually(() => person.shown("#pause-all"), "Pause all");
  await person.page.click("#pause-all");
  await eventually(async () => Object.values(await person.states()), Array(5).fill("paused"));
  await fast();
  await eventually(() => person.shown("#resume-all"), "Resume all");
  await person.page.click("#resume-all");
  await eventually(async () => Object.values(await person.states()), Array(5).fill("received"), 30_000);
});
