/** What a person wants to know once everything runs. */
import { join, relative } from "node:path";
import type { StartSettings } from "./start-settings.ts";

export interface Running {
  settings: StartSettings;
  data: string;
  redisUrl: string;
  pgUri: string;
  /** How the ledger is kept, as /ready says: "timescale" or "native". */
  ledger: string;
  /** Why TimescaleDB is not there. */
  timescaleReason: string | undefined;
}

export function formatSummary({ settings, data, redisUrl, pgUri, ledger, timescaleReason }: Running): string {
  const { root, siteUrl } = settings;
  const here = (path: string) => (path.startsWith(root) ? relative(root, path) : path);
  const rows: [string, string][] = [
    ["Upload page", `${siteUrl}/upload`],
    ["Dashboard", `${siteUrl}/dashboard`],
    ["Analytics", `${siteUrl}/analytics`],
    ["API", `curl -F file=@README.md ${siteUrl}/api/upload`],
    ["Ledger", ledger === "timescale" ? "TimescaleDB hypertable" : `native partitions${timescaleReason ? ` (no TimescaleDB: ${firstLine(timescaleReason)})` : ""}`],
    ["PG_URI", pgUri],
    ["REDIS_URL", redisUrl],
    ["Storage", here(settings.storageFolder)],
    ["Logs", `${here(join(data, "logs"))}/*.log`],
    ["Stop", "Ctrl-C"],
  ];
  return `\nConnectStorm is running.\n\n${rows.map(([name, value]) => `  ${name.padEnd(12)} ${value}`).join("\n")}\n`;
}

function firstLine(text: string): string {
  return text.split("\n")[0] ?? "";
}
