import type { BrowserContext, Page } from "puppeteer";
import type { Album } from "../album.ts";
import { openUploadPage, PageTrouble, type OpenUploadPage, type PageAnswer } from "../upload-page.ts";
import type { ChosenFile } from "../file-choice.ts";
import type { Broken, Receipts } from "../receipts.ts";
import type { Tally, Trouble } from "../tally.ts";
import { launchChromium, WINDOW, type Chromium } from "./chromium.ts";
import type { Driver, Session } from "./driver.ts";

export interface BrowserDriverSettings {
  root: string;
  target: string;
  headless: boolean;
  javaScript: boolean;
  timeoutMs: number;
  patienceMs: number;
  tally: Tally;
  receipts: Receipts;
  album: Album;
  signal: AbortSignal;
}

/** A hand has two; more is what the choosing dialog is for. */
const MOST_FILES = 3;
/** People look whether it is stored before they go on, but not for ever. */
const MOST_WATCHED_MS = 10_000;
/** When many fail at once, each picture waits for the others. */
const SCREENSHOT_MS = 10_000;
/** Two frames take 33 ms, where nothing else is drawn. */
const PAINTED_MS = 5_000;
/** Receipts that are opened at once to be photographed. */
const PHOTOGRAPHERS = 4;
const MOST_LAUNCHES = 2;
const GONE = /Target closed|Session closed|Connection closed|Protocol error|detached|browser has disconnected|Page crashed|Navigating frame was/i;

/** People on the upload page: one Chromium, and for each of them a context of its own, as a private window is. */
export async function openBrowserDriver({ root, target, headless, javaScript, timeoutMs, patienceMs, tally, receipts, album, signal }: BrowserDriverSettings): Promise<Driver> {
  const launch = () => launchChromium({ root, headless, say: (line) => console.log(line) });
  let launches = 1;
  let chromium: Promise<Chromium> = launch();
  const { version } = await chromium;

  /** A crash is an error of those it hits, not the end of the run: once, there is another browser. */
  async function browser(): Promise<Chromium> {
    for (;;) {
      const asked = chromium, current = await asked;
      if (!current.isGone() || signal.aborted) return current;
      if (chromium !== asked) continue; // somebody else has started the next one meanwhile
      if (launches >= MOST_LAUNCHES) throw new PageTrouble({ kind: "browser", detail: "the browser crashed again and was not started a third time" });
      launches++;
      chromium = launch();
    }
  }

  async function photographReceipts(broken: readonly Broken[]): Promise<void> {
    const queue = [...broken];
    async function photographOne(): Promise<void> {
      const current = await browser();
      const context = await current.orGone(current.browser.createBrowserContext());
      const page = await current.orGone(context.newPage());
      await page.setJavaScriptEnabled(javaScript);
      for (let next = queue.shift(); next && !signal.aborted; next = queue.shift()) {
        const address = `${target}/upload/${next.fileId}`;
        await album.add({ ...next, isReceipt: true }, async () => {
          // Where the site is gone, that is what is to be seen.
          await current.orGone(page.goto(address, { waitUntil: "load", timeout: SCREENSHOT_MS })).catch(() => undefined);
          return photograph(page);
        });
      }
      await current.orGone(context.close());
    }
    // Without a browser there are no pictures; what has been measured is told all the same.
    await Promise.allSettled(Array.from({ length: Math.min(PHOTOGRAPHERS, queue.length) }, photographOne));
    for (const left of queue) await album.add(left, async () => undefined);
  }

  function openSession(user: string, random: () => number): Session {
    let mine: Chromium | undefined, context: BrowserContext | undefined, page: Page | undefined;
    let photographs: Promise<unknown> = Promise.resolve();

    async function openPage(current: Chromium): Promise<Page> {
      if (page && !page.isClosed() && mine === current) return page;
      mine = current;
      context = await current.browser.createBrowserContext();
      page = await context.newPage();
      await page.setJavaScriptEnabled(javaScript);
      page.on("pageerror", (error) => {
        photographs = Promise.all([photographs, fail({ kind: "script", detail: error instanceof Error ? error.message : String(error) }, 1)]);
      });
      page.on("error", () => void page?.close().catch(() => undefined)); // a crashed page never answers again
      return page;
    }

    async function openForUse(dueMs: number): Promise<OpenUploadPage> {
      const current = await browser();
      const opened = await current.orGone(openPage(current).then((ready) => openUploadPage(ready, { target, user, timeoutMs, javaScript })));
      tally.step("page", performance.now() - dueMs);
      return opened;
    }

    async function fail(trouble: Trouble, times: number): Promise<void> {
      tally.failed(trouble, times);
      await album.add({ user, ...trouble }, () => photograph(page));
    }

    /** Counts what came of the files, and stays as a person does, who wants to see them stored. */
    async function stay(opened: OpenUploadPage, answers: readonly PageAnswer[]): Promise<void> {
      const held = answers.filter(({ fileId }) => fileId !== undefined), receivedMs = performance.now();
      for (const { file, uploadMs } of held) tally.received(file.sizeBytes, uploadMs);
      try {
        for (const { fileId, trouble } of answers) if (fileId === undefined) await fail(trouble!, 1);
        if (held.length > 0) await mine!.orGone(opened.watch(Math.min(MOST_WATCHED_MS, patienceMs)));
      } catch (error) {
        if (!GONE.test((error as Error).message)) throw error;
      } finally {
        // Whatever happens to the page now: a receipt is a promise.
        for (const { file, fileId, storedMs } of held) receipts.add({ fileId: fileId!, file, user, receivedMs, storedMs: storedMs() });
      }
    }

    return {
      async visit(files, dueMs) {
        let attempted: readonly ChosenFile[] = files.slice(0, 1);
        const way = random() < 0.5 ? "choose" : "drop";
        let opened: OpenUploadPage;
        try {
          opened = await openForUse(dueMs);
          attempted = opened.takesSeveral ? files : attempted;
        } catch (error) {
          if (signal.aborted) return;
          tally.attempt(attempted.length);
          return fail(readTrouble(error, "page"), attempted.length);
        }
        tally.attempt(attempted.length);
        let answers: PageAnswer[];
        try {
          answers = await mine!.orGone(opened.handIn(attempted, way));
        } catch (error) {
          return signal.aborted ? undefined : fail(readTrouble(error, "timeout"), attempted.length);
        }
        await stay(opened, answers).catch((error: Error) => fail({ kind: "unexpected", detail: error.message }, 1));
      },
      async close() {
        await photographs;
        if (context && mine) await mine.orGone(context.close()).catch(() => undefined); // with a browser that is gone, it is too
      },
    };
  }

  const stop = () => void chromium.then((current) => current.close(), () => undefined);
  signal.addEventListener("abort", stop);
  return {
    mostFiles: MOST_FILES, openSession, photographReceipts,
    facts: async () => [
      ["Browser", `${version}${javaScript ? "" : ", without JavaScript"}${launches > 1 ? `, which crashed and was started ${launches} times` : ""}`],
      ["Its memory", (await chromium).memory()],
    ],
    async close() {
      signal.removeEventListener("abort", stop);
      await chromium.then((current) => current.close(), () => undefined); // one that did not start has nothing to close
    },
  };
}

/** @returns JPEG; undefined: there is nothing to be seen, as what failed may be the browser itself */
async function photograph(page: Page | undefined): Promise<Uint8Array | undefined> {
  if (!page || page.isClosed() || !page.browser().connected) return undefined;
  const patience = new Promise<undefined>((resolve) => setTimeout(resolve, SCREENSHOT_MS, undefined).unref());
  const painted = new Promise<undefined>((resolve) => setTimeout(resolve, PAINTED_MS, undefined).unref());
  const shoot = async () => {
    // What the page says has been read from its document; a busy Chromium paints it later.
    if (page.isJavaScriptEnabled()) await Promise.race([page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))"), painted]);
    return page.screenshot({ type: "jpeg", quality: 50, clip: { x: 0, y: 0, ...WINDOW, scale: 0.6 } });
  };
  return Promise.race([shoot().catch(() => undefined), patience]);
}

/** @param ofTimeout  what it means here that something took too long */
function readTrouble(error: unknown, ofTimeout: "page" | "timeout"): Trouble {
  if (error instanceof PageTrouble) return error.trouble;
  const { name, message } = error as Error;
  if (name === "TimeoutError") return { kind: ofTimeout, detail: message };
  const net = /net::(ERR_\w+)/.exec(message)?.[1];
  if (net) return { kind: ofTimeout === "page" ? "page" : "network", detail: net };
  if (GONE.test(message)) return { kind: "browser", detail: message.split("\n")[0]! };
  return { kind: "unexpected", detail: message.split("\n")[0]! };
}
