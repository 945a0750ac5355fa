import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ElementHandle, Page } from "puppeteer";
import { openBrowser } from "./browser.ts";
import { throughFaultProxy } from "./fault-proxy.ts";
import { openWorld } from "./world.ts";

export interface Row {
  name: string;
  state: string;
  trouble: string;
}

/** A browser for the upload page, and a folder of files to hand in. */
export async function openUploader() {
  const browser = await openBrowser();
  const folder = await mkdtemp(join(tmpdir(), "upload-page-"));

  return {
    folder,
    /** @returns where it lies */
    async file(name: string, bytes: string | Uint8Array = name): Promise<string> {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), bytes);
      return join(folder, name);
    },
    async open(url: string) {
      const context = await browser.createBrowserContext(); // what one remembers is not the next one's
      const page = await context.newPage();
      return { ...uploadPage(page), page, complaints: listen(page), async visit() {
        await page.goto(`${url}/upload`);
        await page.waitForSelector("#upload[data-live]");
      }, close: () => context.close() };
    },
    async close() {
      await browser.close();
      await rm(folder, { recursive: true });
    },
  };
}

/** A world of its own, reached over a line that can be told to fail, and a browser for its upload page. */
export async function openUploaderOverLine() {
  const [world, uploader] = await Promise.all([openWorld(), openUploader()]);
  const line = await throughFaultProxy(world.url);
  return {
    world, uploader, line,
    url: line.url.replace(/\/$/, ""),
    async close() {
      await uploader.close();
      await line.close();
      await world.close();
    },
  };
}

export type UploadPage = Awaited<ReturnType<Awaited<ReturnType<typeof openUploader>>["open"]>>;

/** What a person does on the page, and sees. */
function uploadPage(page: Page) {
  const chosen = async (selector: string, paths: string[]) => ((await page.$(selector)) as ElementHandle<never>).uploadFile(...paths);
  const inRow = (name: string, selector: string) => `::-p-xpath(//li[@data-upload][.//*[@data-field="name"][text()="${name}"]]${selector})`;
  const rows = () => page.$$eval("#uploads [data-upload]", (found) => found.map((row): Row => ({
    name: row.querySelector('[data-field="name"]')!.textContent!, state: row.getAttribute("data-state")!, trouble: row.querySelector('[data-field="trouble"]')!.textContent!,
  })));
  return {
    choose: (...paths: string[]) => chosen("#file", paths),
    chooseFolder: (path: string) => chosen("#folder", [path]),
    /** As a person drops from a file manager: files, and folders with all that is in them. */
    async drop(...paths: string[]) {
      const session = await page.createCDPSession();
      for (const type of ["dragEnter", "dragOver", "drop"] as const) {
        await session.send("Input.dispatchDragEvent", { type, x: 300, y: 300, data: { items: [], files: paths, dragOperationsMask: 1 } });
      }
      await session.detach();
    },
    rows,
    states: async (): Promise<Record<string, string>> => Object.fromEntries((await rows()).map(({ name, state }) => [name, state])),
    textOf: (name: string) => page.$eval(inRow(name, ""), (row) => row.textContent!.replace(/\s+/g, " ").trim()),
    idOf: (name: string) => page.$eval(inRow(name, ""), (row) => row.getAttribute("data-file-id")),
    /** Of a row's buttons and links, as soon as it is drawn: hold, drop, retry, choose, try, receipt, letter, download. */
    async press(name: string, act: string) {
      const selector = inRow(name, `//*[@data-act="${act}"]`);
      await page.waitForSelector(selector);
      await page.$eval(selector, (button) => (button as unknown as { click(): void }).click());
    },
    inRow,
    shown: (selector: string) => page.$eval(selector, (element) => element.checkVisibility() && element.textContent!.replace(/\s+/g, " ").trim()),
    overflow: () => page.evaluate("document.documentElement.scrollWidth - innerWidth") as Promise<number>,
  };
}

/** What no page may cause: errors in the console, and what its policy stops (told there, too). */
function listen(page: Page): string[] {
  const complaints: string[] = [];
  page.on("console", (message) => void (["error", "warn"].includes(message.type()) && complaints.push(message.text())));
  page.on("pageerror", (error) => complaints.push(String(error)));
  return complaints;
}
