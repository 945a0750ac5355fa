/**
 * Makes docs/screenshots/: node dist/scripts/screenshots.js http://localhost:8080 /path/to/chromium
 * It hands in some of the sample files first, so that there is something to see: use an installation of no importance.
 */
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer, { type Page } from "puppeteer";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url)))); // dist/scripts/ lies two folders deep
const FOLDER = join(ROOT, "docs", "screenshots");
const WINDOW = { width: 900, height: 780, deviceScaleFactor: 1.15 };
/** The last of them is the first on the dashboard. */
const UPLOADS = [
  ["field-notes.txt", "ranger-2"], ["model-update.bin", "client-0417"], ["storm-sky.png", "mast-camera"], ["readings.zip", "station-7"],
  ["report.pdf", "office"], ["sensor-readings.csv", "station-7"],
] as const;

const [url, executablePath] = process.argv.slice(2);
if (!url || !executablePath) {
  console.error("Say which installation and which browser: node dist/scripts/screenshots.js http://localhost:8080 /path/to/chromium");
  process.exit(1);
}

for (const [name, uploaderId] of UPLOADS) await handIn(name, uploaderId);
await mkdir(FOLDER, { recursive: true });
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--font-render-hinting=none"], defaultViewport: WINDOW });
try {
  const page = await browser.newPage();
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await photograph(page, "upload", async () => {
    await page.type("#uploader_id", "station-7");
    // Slowly enough to see some of them on their way, and leaving them there is meant.
    await page.setViewport({ ...WINDOW, height: 1_010, deviceScaleFactor: 1 });
    await page.emulateNetworkConditions({ upload: 24_000, download: -1, latency: 0 });
    page.on("dialog", (dialog) => void dialog.accept());
    const input = await page.$("input[type=file]");
    await input!.uploadFile(...["report.pdf", "ripples.bmp", "sensor-readings.csv", "model-update.bin", "storm-sky.png"].map((name) => join(ROOT, "files", name)));
    await page.waitForFunction(`document.querySelector('[data-state="stored"]') && document.querySelectorAll("[data-state='sending'] progress:not([hidden])").length > 1 && / left/.test(document.getElementById("files-figures").textContent)`, { timeout: 20_000 });
    await page.$eval("#uploader_id", (field) => (field as unknown as { blur(): void }).blur());
  });
  await page.emulateNetworkConditions(null);
  await page.setViewport(WINDOW);
  await photograph(page, "dashboard", () => page.waitForFunction(`document.querySelectorAll("#recent-rows tr").length >= ${UPLOADS.length}`, { timeout: 10_000 }));
} finally {
  await browser.close();
}

/** Settled when this returns, so that the dashboard has it. */
async function handIn(name: string, uploaderId: string): Promise<void> {
  const response = await fetch(`${url}/api/upload/${name}`, {
    method: "PUT", body: await readFile(join(ROOT, "files", name)), headers: { "X-Uploader-Id": uploaderId },
  });
  if (response.status !== 202) throw new Error(`${name} was refused: ${await response.text()}`);
  const { status_url } = (await response.json()) as { status_url: string };
  for (let attempt = 0; attempt < 100; attempt++) {
    const { status } = (await (await fetch(url + status_url)).json()) as { status: string };
    if (status === "stored") return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${name} was not settled: is the worker running?`);
}

async function photograph(page: Page, name: "upload" | "dashboard", arrange: () => Promise<unknown>): Promise<void> {
  await page.goto(`${url}/${name}`, { waitUntil: "load" }); // never idle: the dashboard is pushed to
  await page.waitForNetworkIdle({ idleTime: 500, concurrency: 1 });
  await arrange();
  await page.screenshot({ path: join(FOLDER, `${name}.png`), optimizeForSpeed: false });
  console.log(`docs/screenshots/${name}.png`);
}
