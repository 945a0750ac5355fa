import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { HTTPRequest } from "puppeteer";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { fetch } from "../support/fetch.ts";
import { TUS } from "../support/tus.ts";
import { openUploaderOverLine, type UploadPage } from "../support/upload-page.ts";

const MIB = 1024 * 1024;
const TOO_LATE = "Too late to cancel: it is received.";

let opened: Awaited<ReturnType<typeof openUploaderOverLine>>;
let { world, line, url, uploader } = {} as typeof opened;
let person: UploadPage;
beforeAll(async () => {
  opened = await openUploaderOverLine();
  ({ world, line, url, uploader } = opened);
});
afterAll(() => opened.close());
beforeEach(async () => {
  line.set({});
  person = await uploader.open(url);
  await person.visit();
});
afterEach(async () => {
  await person.close();
  expect(person.complaints.filter((complaint) => !/Failed to load resource/.test(complaint))).toEqual([]);
});

const state = async (name: string) => (await person.states())[name];
const slow = (bytesPerSecond: number) => person.page.emulateNetworkConditions({ upload: bytesPerSecond, download: -1, latency: 0 });
const remembered = () => person.page.evaluate("localStorage.length");
const countStored = async (name: string) => {
  await world.settleAll();
  return (await world.sql("select id from files where name = $1", [name])).length;
};

/** A large file that the page has paused, and of which the server has all: another connection brought the rest. */
async function pauseThenComplete(name: string): Promise<void> {
  const path = await uploader.file(name, randomBytes(2 * MIB));
  await slow(MIB / 4);
  await person.choose(path);
  await eventually(async () => (await person.page.$eval(person.inRow(name, "//progress"), (bar) => Number((bar as unknown as { value: number }).value))) > 0.2, true);
  let looks = 0;
  person.page.on("request", (request) => void (request.method() === "HEAD" && (looks += 1)));
  await person.press(name, "hold");
  await eventually(() => looks, 3); // it looks no more by itself
  await person.page.emulateNetworkConditions(null);
  const at = `${world.url}/api/uploads/${await person.idOf(name)}`;
  const offset = (await fetch(at, { method: "HEAD", headers: TUS })).headers.get("upload-offset")!;
  const rest = (await readFile(path)).subarray(Number(offset));
  const headers = { ...TUS, "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
  expect((await fetch(at, { method: "PATCH", headers, body: rest })).status).toBe(204);
}

async function intercept(answer: (request: HTTPRequest) => unknown): Promise<void> {
  await person.page.setRequestInterception(true);
  person.page.on("request", (request) => void (answer(request) ?? request.continue()));
}

describe("a file that is cancelled", () => {
  test("when the server has all of it stays, and goes on as received", async () => {
    await pauseThenComplete("late.bin");
    await person.press("late.bin", "drop");
    await eventually(person.rows, [{ name: "late.bin", state: "received", trouble: TOO_LATE }]);
    expect(await countStored("late.bin")).toBe(1);
    await eventually(() => state("late.bin"), "stored");
    expect(await remembered()).toBe(0);
  });

  test("during its one request waits for the answer, and stays if it was received", async () => {
    line.set({ latencyMs: 4_000 }); // time enough for what is done meanwhile; a page waits 15 s
    await person.choose(await uploader.file("late.txt"));
    await eventually(() => state("late.txt"), "sending");
    await person.press("late.txt", "drop");
    await eventually(() => person.shown("#files-headline"), "Cancelling 1 file");
    await eventually(person.rows, [{ name: "late.txt", state: "received", trouble: TOO_LATE }]);
    line.set({});
    expect(await countStored("late.txt")).toBe(1);
  });

  test("when the answer to its one request was lost stays if it was received", async () => {
    line.set({ cutAfterBytes: 0 });
    await person.choose(await uploader.file("unheard.txt"));
    await eventually(() => state("unheard.txt"), "offline");
    await person.press("unheard.txt", "drop");
    await eventually(() => state("unheard.txt"), "cancelling");
    line.set({});
    await eventually(person.rows, [{ name: "unheard.txt", state: "received", trouble: TOO_LATE }]);
    expect(await countStored("unheard.txt")).toBe(1);
  });

  test("during its one request, which does not arrive, is cancelled and not sent again", async () => {
    const posts: HTTPRequest[] = [];
    await intercept((request) => request.method() === "POST" && posts.push(request) === 1 ? true : undefined);
    await person.choose(await uploader.file("never.txt"));
    await eventually(() => posts.length, 1);
    await person.press("never.txt", "drop");
    await eventually(() => state("never.txt"), "cancelling"); // drawn with the next frame
    await posts[0]!.abort();
    await eventually(person.rows, []);
    await eventually(() => person.page.$eval("#spoken", (region) => region.textContent), "never.txt: cancelled.");
    expect(posts.slice(1).map((request) => request.headers()["content-length"] ?? "0")).toEqual(["0"]); // asked, without the bytes
    expect(await countStored("never.txt")).toBe(0);
    expect(await remembered()).toBe(0);
  });
});

test("a small file whose page was left before the answer is listed; chosen again it is there once", async () => {
  const path = await uploader.file("left.txt");
  line.set({ cutAfterBytes: 0 }); // the request arrives; of the answer not a byte
  await person.choose(path);
  await eventually(() => state("left.txt"), "offline");
  person.page.on("dialog", (dialog) => void dialog.accept()); // files are under way
  await person.page.goto("about:blank");
  line.set({});
  await person.visit();
  await eventually(() => person.textOf("left.txt"), expect.stringMatching(/Not finished.*Choose the same file again/));
  await person.choose(path);
  await eventually(person.states, { "left.txt": "received" });
  expect(await countStored("left.txt")).toBe(1);
  expect(await remembered()).toBe(0);
});

test("many small files together have a speed and a time left", async () => {
  const files = await Promise.all(Array.from({ length: 150 }, (_, file) => uploader.file(`small-${file}.bin`, randomBytes(20_000))));
  await slow(100_000);
  await person.choose(...files);
  await eventually(() => person.shown("#files-figures"), expect.stringMatching(/ [4-9]\d(\.\d)? KiB\/s · .+ left$/));
});

test("what was received is there after a reload, and after coming back from a receipt, until it is removed", async () => {
  const name = `${"a-name-too-long-for-its-row-".repeat(7)}.txt`;
  await person.choose(await uploader.file(name), await uploader.file("kept.txt"));
  await eventually(person.states, { [name]: "received", "kept.txt": "received" });
  expect(await person.page.$eval(person.inRow(name, '//*[@data-field="name"]'), (cut) => cut.getAttribute("title"))).toBe(name);
  await person.visit();
  await eventually(person.states, { [name]: "received", "kept.txt": "received" });
  await world.settleAll();
  await eventually(person.states, { [name]: "stored", "kept.txt": "stored" });
  await Promise.all([person.page.waitForNavigation(), person.press("kept.txt", "receipt")]);
  await person.page.goBack();
  await eventually(person.states, { [name]: "stored", "kept.txt": "stored" });
  expect(await person.textOf("kept.txt")).toMatch(/Stored \d{4}-.+ UTC/);
  await person.press(name, "drop");
  await eventually(person.states, { "kept.txt": "stored" });
  await person.visit();
  await eventually(person.states, { "kept.txt": "stored" });
});

test("an upload that the server has forgotten since it received it is not sent again", async () => {
  await pauseThenComplete("slept.bin");
  await intercept((request) => request.method() === "HEAD" ? request.respond({ status: 404, contentType: "application/json", body: "{}" }) : undefined);
  await person.press("slept.bin", "hold");
  await eventually(person.states, { "slept.bin": "received" });
  expect(await countStored("slept.bin")).toBe(1);
});

test("without the browser's locks another tab does not offer what is under way, and does once its tab is gone", async () => {
  const lockless = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"; // as for plain HTTP to another host
  await person.page.evaluateOnNewDocument(lockless);
  await person.visit();
  await slow(MIB / 4);
  await person.choose(await uploader.file("one-tab.bin", randomBytes(12 * MIB)));
  await eventually(() => person.idOf("one-tab.bin"), expect.stringMatching(/./));
  const tab = await person.page.browserContext().newPage();
  await tab.evaluateOnNewDocument(lockless);
  const visit = async () => {
    await tab.goto(`${url}/upload`);
    await tab.waitForSelector("#upload[data-live]");
    return tab.evaluate("new Promise((resolve) => setTimeout(() => requestAnimationFrame(() => setTimeout(resolve)))).then(() => document.querySelectorAll('#uploads li').length)");
  };
  expect(await visit()).toBe(0);
  await person.page.close();
  await eventually(visit, 1);
});

test("too many uploads in too short a time (429): the page waits for as long as the server says", async () => {
  const posts: number[] = [];
  await intercept((request) => request.method() === "POST" && posts.push(performance.now()) === 1
    ? request.respond({ status: 429, contentType: "application/json", headers: { "Retry-After": "2" }, body: JSON.stringify({ error: "Too many uploads." }) }) : undefined);
  await person.choose(await uploader.file("hasty.txt"));
  await eventually(person.rows, [{ name: "hasty.txt", state: "offline", trouble: "Too many uploads." }]);
  await eventually(() => state("hasty.txt"), "received");
  expect(posts[1]! - posts[0]!).toBeGreaterThan(1_900);
});
