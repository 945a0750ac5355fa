import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openUploader, type UploadPage } from "../support/upload-page.ts";
import { openWorld, type World } from "../support/world.ts";

const MOST_BYTES = 1_000_000;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let world: World;
let uploader: Awaited<ReturnType<typeof openUploader>>;
let person: UploadPage;
beforeAll(async () => {
  [world, uploader] = await Promise.all([openWorld({ MAX_UPLOAD_BYTES: String(MOST_BYTES) }), openUploader()]);
});
afterAll(async () => {
  await uploader.close();
  await world.close();
});
beforeEach(async () => {
  person = await uploader.open(world.url);
  await person.visit();
});
afterEach(async () => {
  await person.close();
  expect(person.complaints).toEqual([]);
});

const stored = (like: string) => world.sql<{ name: string; uploader_id: string | null }>("select name, uploader_id from files where name like $1 order by name", [like]);

describe("files go on their way as soon as they are", () => {
  test("chosen, several at once, and are followed until they are in the ledger", async () => {
    await person.page.type("#uploader_id", "station-7");
    await person.choose(await uploader.file("one.txt"), await uploader.file("two.csv"), await uploader.file("Übersicht 日本.txt"));
    await eventually(person.states, { "one.txt": "received", "two.csv": "received", "Übersicht 日本.txt": "received" });
    expect(await person.textOf("one.txt")).toContain("Received, waiting its turn");
    await world.settleAll();
    await eventually(person.states, { "one.txt": "stored", "two.csv": "stored", "Übersicht 日本.txt": "stored" });
    const [row] = await world.sql<{ event_time: Date }>("select event_time from file_events where file_id = $1", [await person.idOf("two.csv")]);
    expect(await person.textOf("two.csv")).toContain(`Stored ${row!.event_time.toISOString().slice(0, 19).replace("T", " ")} UTC`);
    expect((await stored("%")).map(({ uploader_id }) => uploader_id)).toEqual(["station-7", "station-7", "station-7"]);
    await eventually(() => person.shown("#files-headline"), "All 3 files stored, and in the ledger");
    await Promise.all([person.page.waitForNavigation(), person.press("two.csv", "receipt")]);
    expect(await person.page.$eval("h1", (heading) => heading.textContent)).toBe("Stored, and in the ledger.");
  });

  test("dropped, folders with all that is in them: more than a browser tells at once, each with its way", async () => {
    for (let file = 0; file < 120; file++) await uploader.file(`field/station-${file % 2}/drop-${String(file).padStart(3, "0")}.txt`);
    await uploader.file("field/deep/er/drop-deep.txt");
    await person.drop(`${uploader.folder}/field`, await uploader.file("drop-beside.txt"));
    await eventually(async () => (await person.rows()).filter(({ state }) => state === "received").length, 122, 60_000);
    expect(await person.textOf("drop-deep.txt")).toContain("field/deep/er");
    await world.settleAll();
    expect((await stored("drop-%")).length).toBe(122); // by their names alone
  }, 90_000);

  test("and the list is there with its first row", async () => {
    await person.page.evaluate(`void (globalThis.firstSeen = new Promise((resolve) => {
      const nextFrame = () => new Promise(requestAnimationFrame);
      new MutationObserver(([{ addedNodes }], observer) => {
        observer.disconnect();
        nextFrame().then(nextFrame).then(() => resolve(addedNodes[0].checkVisibility()));
      }).observe(document.getElementById("uploads"), { childList: true });
    }))`);
    await person.choose(await uploader.file("seen.txt"));
    expect(await person.page.evaluate("firstSeen")).toBe(true);
    await eventually(person.states, { "seen.txt": "received" });
    await person.press("seen.txt", "drop");
    await eventually(() => person.shown("#files"), false);
  });

  test("a folder, chosen", async () => {
    await uploader.file("chosen/inner/in-folder.txt");
    await person.chooseFolder(`${uploader.folder}/chosen`);
    await eventually(person.states, { "in-folder.txt": "received" });
    expect(await person.textOf("in-folder.txt")).toContain("chosen/inner");
  });

  test("pasted, a picture under a name of its own", async () => {
    await person.page.evaluate(`{
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File(["pixels"], "image.png", { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }`);
    await eventually(async () => (await person.rows()).map(({ state }) => state), ["received"]);
    expect((await person.rows())[0]!.name).toMatch(/^pasted-\d{8}-\d{6}\.png$/);
  });
});

describe("before anything is sent", () => {
  test("a file that would be refused says why, and the others go", async () => {
    await person.choose(await uploader.file("empty.txt", ""), await uploader.file("large.bin", Buffer.alloc(MOST_BYTES + 1)), await uploader.file("fits.txt"));
    await eventually(person.states, { "empty.txt": "refused", "large.bin": "refused", "fits.txt": "received" });
    const [empty, large] = await person.rows();
    expect(empty!.trouble).toBe("The file is empty: zero bytes are not accepted.");
    expect(large!.trouble).toBe("Too large: it has 977 KiB, the limit is 977 KiB.");
    await person.press("large.bin", "drop");
    await eventually(person.states, { "empty.txt": "refused", "fits.txt": "received" });
  });

  test("a sender that would be refused holds the files back until it is mended", async () => {
    await person.page.$eval("#uploader_id", (field, text) => {
      (field as unknown as { value: string }).value = text;
      field.dispatchEvent(new Event("input"));
    }, "x".repeat(130));
    await person.choose(await uploader.file("held.txt"));
    await eventually(() => person.shown("#sender-fault"), "That is 2 characters too many: 128 at most. What waits is sent when this is mended.");
    await eventually(person.states, { "held.txt": "waiting" });
    await person.page.focus("#uploader_id");
    await person.page.keyboard.press("End");
    await person.page.keyboard.press("Backspace");
    await person.page.keyboard.press("Backspace");
    await eventually(person.states, { "held.txt": "received" });
    await world.settleAll();
    expect(await stored("held.txt")).toMatchObject([{ uploader_id: "x".repeat(128) }]);
  });

  test("the same file chosen twice is noticed, and sent twice only if wanted; then it says that its bytes were here", async () => {
    const path = await uploader.file("same.txt", "the very same bytes");
    await person.choose(path);
    await eventually(person.states, { "same.txt": "received" });
    await person.choose(path);
    await eventually(() => person.shown("#twice p"), "same.txt is in the list already, so it is not sent twice.");
    expect(await person.rows()).toHaveLength(1);
    await world.settleAll();
    await person.page.click("#send-twice");
    await eventually(async () => (await person.rows()).map(({ state }) => state), ["stored", "received"]);
    await world.settleAll();
    await eventually(async () => (await person.rows()).map(({ state }) => state), ["stored", "stored"]);
    const [first, second] = await world.sql<{ id: string; event_time: Date }>("select id, event_time from files where name = 'same.txt' order by event_time");
    const notice = `These bytes were handed in before, as same.txt on ${first!.event_time.toISOString().slice(0, 19).replace("T", " ")} UTC: kept once.`;
    await eventually(() => person.page.$$eval(".twin", (notices) => notices.map((notice) => notice.textContent)), ["", notice]);
    expect(await person.page.$eval(".twin a", (link) => link.getAttribute("href"))).toBe(`/upload/${first!.id}`);
    const status = await (await fetch(`${world.url}/api/files/${second!.id}/status`)).json();
    expect(status).toMatchObject({ identical_to: { file_id: first!.id, filename: "same.txt", event_time: first!.event_time.toISOString() } });
    await person.page.goto(`${world.url}/upload/${second!.id}`);
    expect((await person.page.$eval(".twin", (notice) => notice.textContent!)).trim()).toBe(notice);
    await person.page.goto(`${world.url}/upload/${first!.id}`);
    expect(await person.page.$(".twin")).toBeNull();
  });
});

test("a file that fails on its way says why, and leads to what to do", async () => {
  await world.sql("alter table files add constraint refused check (name not like 'bad%')");
  await person.choose(await uploader.file("bad.txt"));
  await eventually(person.states, { "bad.txt": "received" });
  await world.settleAll();
  await eventually(person.states, { "bad.txt": "failed" });
  await world.sql("alter table files drop constraint refused");
  const [{ reason }] = await world.sql<{ reason: string }>("select reason from dead_letters") as [{ reason: string }];
  expect((await person.rows())[0]!.trouble).toBe(reason);
  await eventually(() => person.shown("#files-headline"), "1 file needs a look");
  const letter = (await person.page.$(person.inRow("bad.txt", '//*[@data-act="letter"]')))!;
  expect(await letter.evaluate((link) => link.getAttribute("href"))).toBe(`/dead-letters#${await person.idOf("bad.txt")}`);
});

describe("the page", () => {
  test("is used by the keyboard alone, and tells a screen reader which file each button is for", async () => {
    await person.page.focus("#uploader_id");
    await person.page.keyboard.press("Tab");
    const opened = person.page.waitForFileChooser();
    await person.page.evaluate("0"); // the browser has heard of it: a key is faster
    await person.page.keyboard.press("Enter");
    const chooser = await opened;
    await chooser.accept([await uploader.file("by-key.txt"), await uploader.file("by-key-2.txt")]);
    await eventually(person.states, { "by-key.txt": "received", "by-key-2.txt": "received" });
    await world.settleAll();
    await eventually(person.states, { "by-key.txt": "stored", "by-key-2.txt": "stored" });
    await eventually(() => person.shown("#remove-finished"), "Clear finished");
    const focused = () => person.page.$eval(":focus", (element) => element.getAttribute("aria-label") ?? element.id);
    const walk: string[] = [];
    for (let key = 0; key < 8; key++) {
      await person.page.keyboard.press("Tab");
      walk.push(await focused());
    }
    expect(walk).toEqual(["choose-folder", "remove-finished", "Receipt of by-key.txt", "Download by-key.txt", "Remove from the list: by-key.txt", "Receipt of by-key-2.txt", "Download by-key-2.txt", "Remove from the list: by-key-2.txt"]);
    await person.page.focus('[aria-label="Remove from the list: by-key.txt"]');
    await person.page.keyboard.press("Enter");
    await eventually(person.states, { "by-key-2.txt": "stored" });
    expect(await focused()).toBe("Receipt of by-key-2.txt"); // not thrown back to the top
    await eventually(() => person.page.$eval("#spoken", (region) => region.textContent), expect.stringMatching(/stored|removed from the list/));
  });

  test.each(["light", "dark"])("has no serious fault that axe finds, with files in all kinds of states, %s", async (scheme) => {
    await person.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await person.choose(await uploader.file("empty.txt", ""), await uploader.file(`axe-${scheme}.txt`, `axe ${scheme}`), await uploader.file("waits.txt"));
    await eventually(async () => (await person.states())["waits.txt"], "received");
    await person.choose(await uploader.file(`axe-${scheme}.txt`, `axe ${scheme}`));
    await person.page.evaluate(AXE);
    const found = await person.page.evaluate("axe.run()") as { violations: { id: string; impact: string; nodes: { html: string }[] }[] };
    expect(found.violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, nodes }) => [id, nodes[0]!.html])).toEqual([]);
  });

  test("fits a phone, however long a name is", async () => {
    await person.page.setViewport({ width: 360, height: 740 });
    expect(await person.overflow()).toBe(0);
    const name = `${"an-instrument-that-writes-everything-into-its-name-".repeat(4)}.csv`;
    const path = await uploader.file(name);
    await person.choose(path, await uploader.file("empty.txt", ""));
    await eventually(async () => (await person.states())[basename(path)], "received");
    await person.choose(path);
    expect(await person.overflow()).toBe(0);
    const widest = await person.page.$$eval("#files *", (elements) => Math.max(...elements.map((element) => element.getBoundingClientRect().right)));
    expect(widest).toBeLessThanOrEqual(360);
  });

  test("stays usable with two thousand files", async () => {
    await person.page.$eval("#uploader_id", (field, text) => ((field as unknown as { value: string }).value = text), "x".repeat(129)); // so that they wait
    await person.page.evaluate(`void new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (longest = Math.max(longest, duration)))).observe({ type: "longtask" })`);
    const count = () => person.page.$$eval("#uploads [data-upload]", (found) => found.length);
    let longestMs = Infinity;
    for (let round = 0; round < 3 && longestMs >= 1_000; round++) { // some 100 ms on an idle machine; all at once would be seconds, each time
      await person.page.evaluate(`{
        globalThis.longest = 0;
        const dataTransfer = new DataTransfer();
        for (let file = 0; file < 2000; file++) dataTransfer.items.add(new File(["x" + file], "many-" + file + ".txt"));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
      }`);
      await eventually(count, 2000);
      longestMs = await person.page.evaluate("longest") as number;
      await eventually(() => person.shown("#cancel-all"), "Cancel all");
      const asked = await person.page.evaluate(`{ // both within the time for the second: five seconds
        const button = document.getElementById("cancel-all");
        button.click();
        const { length } = document.querySelectorAll("#uploads [data-upload]");
        button.click();
        length;
      }`);
      expect(asked).toBe(2000); // the first click asks
      await eventually(count, 0);
    }
    expect(longestMs).toBeLessThan(1_000);
  }, 90_000);

  test("loads less than 150 KB of scripts, compressed, and all from here", async () => {
    const scripts = await person.page.evaluate("performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.js')).map(({ name }) => name)") as string[];
    const sizes = await Promise.all(scripts.map(async (url) => gzipSync(Buffer.from(await (await fetch(url)).arrayBuffer())).length));
    expect(scripts.length).toBeGreaterThan(10);
    expect(scripts.filter((url) => !url.startsWith(`${world.url}/assets/`))).toEqual([]);
    expect(sizes.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(150_000);
  });
});
