/**
 * Makes docs/screenshots/, every page as a person sees it: node dist/scripts/screenshots.js http://localhost:8080 /path/to/chromium
 * It hands in sample files and analytics events, and has the database (PG_URI) refuse one of them so that there is a dead letter: use an installation
 * of no importance.
 */
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import puppeteer, { type Page } from "puppeteer";
import { sampleEvents } from "./sample-events.ts";
import { chromiumEnvironment } from "./servers/chromium.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url)))); // dist/scripts/ lies two folders deep
const FOLDER = join(ROOT, "docs", "screenshots");
const WIDE = { width: 900, height: 860, deviceScaleFactor: 1 };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 1.5 };
const SITE = "storm-watch.example";
const MONTH_DAYS = 30;
const REFUSED = "drifted-clock.csv";
/** The last of them is the first on the dashboard. */
const UPLOADS = [
  ["field-notes.txt", "ranger-2"], ["model-update.bin", "client-0417"], ["storm-sky.png", "mast-camera"], ["readings.zip", "station-7"],
  ["report.pdf", "office"], ["sensor-readings.csv", "station-7"],
] as const;

const [url, executablePath] = process.argv.slice(2);
if (!url || !executablePath || !process.env.PG_URI) {
  console.error("Say which installation and which browser, and PG_URI: node dist/scripts/screenshots.js http://localhost:8080 /path/to/chromium");
  process.exit(1);
}

for (const [name, uploaderId] of UPLOADS) await handIn(name, uploaderId, join(ROOT, "files", name));
const receiptId = await handIn("storm-sky.png", "mast-camera", join(ROOT, "files", "storm-sky.png"));
const deadId = await refuse(REFUSED, () => handIn(REFUSED, "station-9", join(ROOT, "files", "sensor-readings.csv"), "failed"));
const month = await haveCounted();
await mkdir(FOLDER, { recursive: true });
const browser = await puppeteer.launch({ executablePath, env: chromiumEnvironment(), args: ["--no-sandbox", "--font-render-hinting=none"] });
try {
  await photograph("upload", "/upload", "light", { ...WIDE, height: 1_010 }, sendSlowly);
  await photograph("upload-phone", "/upload", "dark", PHONE, sendSlowly);
  await photograph("receipt", `/upload/${receiptId}`, "light", WIDE);
  await photograph("dashboard", "/dashboard", "light", { ...WIDE, height: 1_010 }, showsUploads);
  await photograph("dashboard-phone", "/dashboard", "dark", PHONE, showsUploads);
  await photograph("analytics", month, "light", { ...WIDE, height: 1_130 });
  await photograph("analytics-phone", month, "dark", { ...PHONE, height: 1_010 }, (page) => page.$eval("#figures", (heading) => (heading as unknown as { scrollIntoView(): void }).scrollIntoView()));
  await photograph("dead-letters", "/dead-letters", "light", { ...WIDE, height: 560 });
  await photograph("discard", `/dead-letters/${deadId}/discard`, "light", { ...WIDE, height: 620 });
  await photograph("not-found", "/nothing-here", "dark", { ...WIDE, height: 620 });
} finally {
  await browser.close();
}

/** Slowly enough to see some of the files on their way. */
async function sendSlowly(page: Page): Promise<void> {
  await page.type("#uploader_id", "station-7");
  await page.emulateNetworkConditions({ upload: 24_000, download: -1, latency: 0 });
  const input = await page.$("input[type=file]");
  await input!.uploadFile(...["report.pdf", "ripples.bmp", "sensor-readings.csv", "model-update.bin", "storm-sky.png"].map((name) => join(ROOT, "files", name)));
  await page.waitForFunction(`document.querySelector('[data-state="stored"]') && document.querySelectorAll("[data-state='sending'] progress:not([hidden])").length > 1 && / left/.test(document.getElementById("files-figures").textContent)`, { timeout: 20_000 });
  await page.$eval("#uploader_id", (field) => (field as unknown as { blur(): void }).blur());
}

async function showsUploads(page: Page): Promise<void> {
  await page.waitForFunction(`document.querySelectorAll("#recent-rows tr").length >= ${UPLOADS.length}`, { timeout: 10_000 });
}

/** Settled when this returns, so that the dashboard has it. @returns the file's id */
async function handIn(name: string, uploaderId: string, path: string, end = "stored"): Promise<string> {
  const response = await fetch(`${url}/api/upload/${name}`, { method: "PUT", body: await readFile(path), headers: { "X-Uploader-Id": uploaderId } });
  if (response.status !== 202) throw new Error(`${name} was refused: ${await response.text()}`);
  const { status_url, file_id } = (await response.json()) as { status_url: string; file_id: string };
  for (let attempt = 0; attempt < 600; attempt++) {
    const { status } = (await (await fetch(url + status_url)).json()) as { status: string };
    if (status === end) return file_id;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${name} was not ${end}: is the worker running?`);
}

/** @returns the address of the month's figures, once they are all there */
async function haveCounted(): Promise<string> {
  const now = new Date();
  const events = sampleEvents(SITE, MONTH_DAYS, now);
  const answer = await fetch(`${url}/events`, { method: "POST", body: JSON.stringify(events), headers: { "Content-Type": "application/json" } });
  if (answer.status !== 202) throw new Error(`the events were refused: ${await answer.text()}`);
  const days = new URLSearchParams({ site_id: SITE, from: events[0]!.timestamp.slice(0, 10), to: now.toISOString().slice(0, 10) });
  for (let attempt = 0; attempt < 600; attempt++) {
    const { types } = (await (await fetch(`${url}/stats/types?${days}`)).json()) as { types: { events: number }[] };
    if (types.reduce((sum, type) => sum + type.events, 0) >= events.length) return `/analytics?${days}`;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the events were not counted: is the worker running?");
}

async function refuse<T>(name: string, work: () => Promise<T>): Promise<T> {
  const client = new pg.Client(process.env.PG_URI);
  await client.connect();
  try {
    await client.query(`alter table files add constraint no_place_for_it check (name <> '${name}') not valid`);
    return await work();
  } finally {
    await client.query("alter table files drop constraint no_place_for_it");
    await client.end();
  }
}

/** As somebody who was never here before. */
async function photograph(name: string, path: string, scheme: "light" | "dark", viewport: typeof WIDE, arrange: (page: Page) => Promise<unknown> = async () => {}): Promise<void> {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("dialog", (dialog) => void dialog.accept()); // it asks before it is left while it sends
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport(viewport);
  await page.goto(url + path, { waitUntil: "load" }); // never idle: the dashboard is pushed to
  await page.waitForNetworkIdle({ idleTime: 500, concurrency: 1 });
  await arrange(page);
  await page.screenshot({ path: join(FOLDER, `${name}.png`), optimizeForSpeed: false });
  await context.close();
  console.log(`docs/screenshots/${name}.png`);
}
