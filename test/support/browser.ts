import puppeteer, { type Browser } from "puppeteer";
import { servers } from "./servers.ts";

/** Chromium, as the tests' servers have it. In a locale without UTF-8 it drops files whose names are not ASCII from what was chosen. */
export function openBrowser(): Promise<Browser> {
  return puppeteer.launch({
    executablePath: servers.chromium(), args: ["--no-sandbox"],
    env: { ...process.env, ...(process.platform === "linux" && { LC_ALL: "C.UTF-8" }) },
  });
}
