import puppeteer, { type Browser } from "puppeteer";
import { chromiumEnvironment } from "../../scripts/servers/chromium.ts";
import { servers } from "./servers.ts";

/** Chromium, as the tests' servers have it. */
export function openBrowser(): Promise<Browser> {
  return puppeteer.launch({ executablePath: servers.chromium(), args: ["--no-sandbox"], env: chromiumEnvironment() });
}
