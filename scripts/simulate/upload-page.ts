/** All that is known here of the upload page: how it is opened, how a file is given to it, and how it says what became of it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ElementHandle, Page } from "puppeteer";
import type { ChosenFile } from "./file-choice.ts";
import type { Trouble } from "./tally.ts";

export type Way = "choose" | "drop";

/** What the page said of one file. */
export interface PageAnswer {
  file: ChosenFile;
  /** There is a receipt. */
  fileId: string | undefined;
  /** From choosing to the receipt. */
  uploadMs: number;
  trouble: Trouble | undefined;
  /** From the receipt until the page said that it is stored; undefined while it has not. */
  storedMs(): number | undefined;
}

export interface OpenUploadPage {
  /** More than one file can be handed in at once. */
  takesSeveral: boolean;
  /** @returns one answer for each file */
  handIn(files: readonly ChosenFile[], way: Way): Promise<PageAnswer[]>;
  /** Stays until the page has said of each file that it is stored or has failed, at most so long. */
  watch(mostMs: number): Promise<void>;
}

/** A page that could not be used; the trouble is what a person would tell. */
export class PageTrouble extends Error {
  override readonly name = "PageTrouble";
  readonly trouble: Trouble;

  constructor(trouble: Trouble) {
    super(trouble.detail);
    this.trouble = trouble;
  }
}

const RECEIPT_ADDRESS = /\/upload\/([0-9a-f-]{36})(?:[?#]|$)/;
/** States in which sending has ended, and those in which nothing more will happen. */
const SENT = ["received", "settling", "stored", "failed"], GIVEN_UP = ["refused", "broken"];
const LOOK_MS = 50;

interface Row {
  name: string;
  state: string;
  fileId: string | undefined;
  trouble: string;
  /** On the page's clock, from choosing on. */
  receivedMs: number | undefined;
  storedMs: number | undefined;
}

/** @throws PageTrouble; Puppeteer's own where the browser is gone */
export async function openUploadPage(page: Page, { target, user, timeoutMs, javaScript }: { target: string; user: string; timeoutMs: number; javaScript: boolean }): Promise<OpenUploadPage> {
  // Each visit is a tab of its own: in the last one's the page would list what that one handed in, and not take the same file twice unasked.
  const fresh = await page.evaluateOnNewDocument("try { sessionStorage.clear(); } catch {}");
  const response = await page.goto(`${target}/upload`, { waitUntil: "load", timeout: timeoutMs });
  await page.removeScriptToEvaluateOnNewDocument(fresh.identifier);
  if (response && !response.ok()) throw new PageTrouble({ kind: "page", detail: await readErrorPage(page, response.status()) });
  const input = (await page.waitForSelector("#file", { timeout: timeoutMs })) as ElementHandle | null;
  if (!input) throw new PageTrouble({ kind: "page", detail: "there is no field for a file on it" });
  const hasList = javaScript && (await page.$("#uploads")) !== null;
  const takesSeveral = hasList && (await page.$("#file[multiple]")) !== null;
  await page.$eval("#uploader_id", (field, name) => { (field as unknown as { value: string }).value = name; }, user);
  if (!hasList) return openForm(page, timeoutMs);
  return openList(page, takesSeveral, timeoutMs);
}

/** The page as it is without scripts, and was before it had a list: one file, one button, and the receipt's page. */
function openForm(page: Page, timeoutMs: number): OpenUploadPage {
  return {
    takesSeveral: false,
    async handIn([file], way) {
      const begunAt = performance.now();
      await give(page, [file!], way);
      const blocked = await readChoice(page, begunAt + timeoutMs);
      const answer = (found: { fileId?: string; trouble?: Trouble }): PageAnswer[] => (
        [{ file: file!, fileId: found.fileId, trouble: found.trouble, uploadMs: performance.now() - begunAt, storedMs: () => undefined }]
      );
      if (blocked) return answer({ trouble: { kind: "refused", detail: blocked } });
      const [response] = await Promise.all([page.waitForNavigation({ waitUntil: "load", timeout: timeoutMs }), page.click("button[type=submit]")]);
      const fileId = RECEIPT_ADDRESS.exec(page.url())?.[1];
      if (fileId) return answer({ fileId });
      const status = response?.status() ?? 0;
      if (status >= 400) return answer({ trouble: { kind: "refused", detail: await readErrorPage(page, status) } });
      return answer({ trouble: { kind: "no receipt", detail: `the form led to ${new URL(page.url()).pathname}` } });
    },
    watch: async () => undefined,
  };
}

/**
 * What is dropped is in the form a moment later; sending it before would send nothing.
 * @returns why it cannot be sent, where the page says so
 */
async function readChoice(page: Page, givesUpAt: number): Promise<string | undefined> {
  for (;;) {
    const { chosen, blocked } = (await page.evaluate(`({
      chosen: document.querySelector("#file").files.length > 0, blocked: document.querySelector(".chosen-note.bad")?.textContent.trim(),
    })`)) as { chosen: boolean; blocked?: string };
    if (chosen || blocked) return blocked;
    if (performance.now() >= givesUpAt) throw new PageTrouble({ kind: "timeout", detail: "the form did not take the file" });
    await sleep(LOOK_MS);
  }
}

/** The page with scripts: choosing starts the sending, and each file has its row. */
function openList(page: Page, takesSeveral: boolean, timeoutMs: number): OpenUploadPage {
  let rows: Row[] = [];
  const read = async () => { rows = (await page.evaluate("globalThis.crowd.read()")) as Row[]; };
  const rowOf = (file: ChosenFile) => rows.find((row) => row.name === file.name);

  return {
    takesSeveral,
    async handIn(files, way) {
      await page.evaluate(WATCH_ROWS);
      await give(page, files, way);
      const ended = [...SENT, ...GIVEN_UP];
      const isTooLate = await page.waitForFunction(`globalThis.crowd.haveAll(${JSON.stringify(files.map(({ name }) => name))}, ${JSON.stringify(ended)})`, { timeout: timeoutMs, polling: LOOK_MS })
        .then(() => false, (error: Error) => { if (error.name === "TimeoutError") return true; throw error; });
      await read();
      return files.map((file): PageAnswer => {
        const row = rowOf(file);
        const received = row !== undefined && SENT.includes(row.state);
        return {
          file, fileId: received ? row.fileId : undefined, uploadMs: row?.receivedMs ?? 0,
          trouble: received && row.fileId ? undefined : troubleOf(row, isTooLate, timeoutMs),
          storedMs: () => {
            const now = rowOf(file);
            return now?.storedMs === undefined || now.receivedMs === undefined ? undefined : now.storedMs - now.receivedMs;
          },
        };
      });
    },
    async watch(mostMs) {
      const names = rows.filter(({ state }) => SENT.includes(state)).map(({ name }) => name);
      await page.waitForFunction(`globalThis.crowd.haveAll(${JSON.stringify(names)}, ["stored", "failed"])`, { timeout: mostMs, polling: LOOK_MS })
        .catch((error: Error) => { if (error.name !== "TimeoutError") throw error; });
      await read();
    },
  };
}

function troubleOf(row: Row | undefined, isTooLate: boolean, timeoutMs: number): Trouble {
  if (!row) return { kind: "no receipt", detail: "the page took no notice of the file" };
  if (row.state === "refused") return { kind: "refused", detail: row.trouble || "the page does not say why" };
  if (row.state === "broken") return { kind: "network", detail: row.trouble || "the page does not say why" };
  if (isTooLate) return { kind: "timeout", detail: `still ${row.state} after ${timeoutMs / 1000} s${row.trouble ? `: ${row.trouble}` : ""}` };
  return { kind: "no receipt", detail: "the page says it was received, and has no id for it" };
}

/** Files given as a hand would: by the field's dialog, or dropped onto it. */
async function give(page: Page, files: readonly ChosenFile[], way: Way): Promise<void> {
  const paths = files.map(({ path }) => path);
  if (way === "choose") {
    const input = (await page.$("#file")) as ElementHandle<never>;
    return (input as unknown as { uploadFile(...paths: string[]): Promise<void> }).uploadFile(...paths);
  }
  const zone = await page.$("#drop");
  const box = await zone?.boundingBox();
  if (!box) throw new PageTrouble({ kind: "page", detail: "there is no zone to drop files on" });
  await zone!.scrollIntoView();
  const at = await zone!.clickablePoint();
  const data = { items: [], files: paths, dragOperationsMask: 1 };
  await page.mouse.dragEnter(at, data);
  await page.mouse.dragOver(at, data);
  await page.mouse.drop(at, data);
}

/** The site's sentence and code, where the page is one of its own. */
async function readErrorPage(page: Page, status: number): Promise<string> {
  const read = (selector: string) => page.$eval(selector, (element) => element.textContent?.trim() ?? "").catch(() => "");
  const sentence = await read("main .lead"), code = await read("main .facts code");
  return [status, code && `${code}:`, sentence].filter(Boolean).join(" ");
}

/** Runs in the page: notes when each new row changed its state, by the page's own clock, from the moment of choosing on. */
const WATCH_ROWS = `(() => {
  const rows = () => [...document.querySelectorAll("#uploads [data-upload]")];
  const before = new Set(rows());
  const seen = new Map();
  let chosenAt = performance.now();
  for (const happening of ["change", "drop"]) document.addEventListener(happening, () => { chosenAt = performance.now(); }, { capture: true, once: true });
  const text = (row, field) => row.querySelector('[data-field="' + field + '"]')?.textContent.trim() ?? "";
  const look = () => {
    const now = performance.now() - chosenAt;
    for (const row of rows()) {
      if (before.has(row)) continue;
      const known = seen.get(row) ?? {};
      const state = row.dataset.state ?? "";
      Object.assign(known, { name: text(row, "name"), state, fileId: row.dataset.fileId || undefined, trouble: text(row, "trouble") });
      if (["received", "settling", "stored", "failed"].includes(state)) known.receivedMs ??= now;
      if (state === "stored") known.storedMs ??= now;
      seen.set(row, known);
    }
  };
  globalThis.crowd?.stop();
  const observer = new MutationObserver(look);
  observer.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state", "data-file-id"] });
  globalThis.crowd = {
    stop: () => observer.disconnect(),
    read: () => (look(), [...seen.values()]),
    haveAll(names, states) {
      look();
      return names.every((name) => [...seen.values()].some((row) => row.name === name && states.includes(row.state)));
    },
  };
})()`;
