import { FAILURES } from "../../src/core/errors.ts";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { parseConfig, SETTING_NAMES } from "../../src/core/config.ts";
import { eventually } from "../support/eventually.ts";
import { openWorld, tallyOf } from "../support/world.ts";

const ROOT = join(import.meta.dirname, "../..");
const README = readFileSync(join(ROOT, "README.md"), "utf8");
const GUIDES = ["README.md", "CHANGELOG.md", ...markdownIn("docs")];
const PAGES = [...GUIDES, ...markdownIn("files"), ...markdownIn("bench")];

function markdownIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".md")).map((name) => join(folder, name));
}

const textOf = (page: string) => readFileSync(join(ROOT, page), "utf8");
const withoutCode = (text: string) => text.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");

describe.each(PAGES)("%s", (page) => {
  test("has links and pictures that lead somewhere", () => {
    for (const [, target = ""] of withoutCode(textOf(page)).matchAll(/\]\(([^()\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue;
      const [path = "", anchor] = target.split("#");
      const file = path === "" ? join(ROOT, page) : join(ROOT, dirname(page), path);
      expect(existsSync(file), target).toBe(true);
      if (anchor) expect(anchorsOf(readFileSync(file, "utf8")), target).toContain(anchor);
    }
  });
});

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-"));
}

describe.each(GUIDES)("%s", (page) => {
  const text = textOf(page);

  test("names npm scripts, programs and files that exist", () => {
    const { scripts } = JSON.parse(textOf("package.json"));
    for (const [, script] of text.matchAll(/npm run ([\w-]+)/g)) expect(Object.keys(scripts)).toContain(script);
    for (const [, room, name] of text.matchAll(/dist\/(\w+)\/([\w/-]+)\.js/g)) {
      expect(existsSync(join(ROOT, room === "scripts" ? "" : "src", room!, `${name}.ts`)), `${room}/${name}`).toBe(true);
    }
    for (const [, path = ""] of text.matchAll(/`((?:src|sql|docs|scripts|files|test|bench|views|public)\/[\w./-]*)`/g)) {
      expect(existsSync(join(ROOT, path)), path).toBe(true);
    }
  });

  test("names settings that exist", () => {
    const settings = new Set<string>([...SETTING_NAMES, "DATABASE_URL", "FLASK_HOST", "FLASK_PORT"]);
    const families = /^(S3|PG|REDIS|INBOX|STORAGE|LEDGER|RECONCILE|MAX|ALLOWED|UPLOAD|CONSUMER|CLAIM|RETRY|RUN|SHUTDOWN|TRUST|TIME|SECRET|SMALL|LOG)_/;
    const codes = /^INBOX_(ENTRY_MISSING|BLOB_MISSING|BYTES_DAMAGED|RECORD_DAMAGED)$/;
    for (const [name] of text.matchAll(/\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b/g)) {
      if (families.test(name) && !codes.test(name) && !(name in FAILURES)) expect([...settings], name).toContain(name);
    }
  });

  test("names no address of anybody's own machine", () => {
    expect(text).not.toMatch(/\/(root|home)\/|\/work\/|\/tmp\//);
  });
});

describe("README.md", () => {
  test("can be read in one sitting", () => {
    expect(README.split("\n").length).toBeLessThan(300);
  });

  test("states the defaults that are", () => {
    const defaults = parseConfig({}) as Record<string, unknown>;
    const rows = [...README.matchAll(/^\| (`[A-Z0-9_`, ]+`) \| ([^|]*) \|/gm)];
    expect(rows.length).toBeGreaterThan(10);
    for (const [, names = "", stated = ""] of rows) {
      const values = stated.split(",").map((value) => value.replaceAll("`", "").trim());
      names.split(",").map((name) => name.replaceAll("`", "").trim()).forEach((name, index) => {
        expect(String(defaults[name] ?? ""), name).toBe(values[index] ?? "");
      });
    }
  });

  test("shows pictures that load fast", () => {
    const names = readdirSync(join(ROOT, "docs/screenshots"));
    const shown = new Set([...readFileSync(join(ROOT, "README.md"), "utf8").matchAll(/\]\(docs\/screenshots\/([^)]+)\)/g)].map(([, name]) => name));
    expect([...shown].sort()).toEqual(names.sort()); // each page's, and the script makes no other
    const made = readFileSync(join(ROOT, "scripts/screenshots.ts"), "utf8");
    for (const name of names) {
      expect([name, statSync(join(ROOT, "docs/screenshots", name)).size < 150_000]).toEqual([name, true]);
      expect(made).toContain(`photograph("${name.replace(".png", "")}"`);
    }
    expect(readFileSync(join(ROOT, "docs/flow.svg"), "utf8")).toMatch(/prefers-color-scheme: dark/);
  });

  test("has curl lines that work as they are written and answer what it says", async () => {
    const examples = [...README.matchAll(/^```console\n([\s\S]*?)^```/gm)].flatMap(([, block = ""]) =>
      block.split(/^\$ /m).slice(1).map((text) => ({ command: text.split("\n")[0]!, stated: text.split("\n").slice(1).join("\n").trim() })));
    expect(examples.length).toBeGreaterThan(8);
    const world = await openWorld();
    const folder = await mkdtemp(join(tmpdir(), "connectstorm-readme-"));
    await symlink(join(ROOT, "files"), join(folder, "files"));
    const variables: Record<string, string> = {};
    try {
      for (const { command, stated } of examples) {
        if (command.includes("/api/audit")) await eventually(async () => (await tallyOf(world))?.files, 3); // written about once a second
        const { stdout } = await promisify(execFile)("sh", ["-c", `set -eu; ${command.replaceAll("http://localhost:8080", world.url)}`], {
          cwd: folder, env: { PATH: process.env.PATH, ...variables },
        });
        const [, status, body = stdout] = /^(HTTP\/1\.1 [^\r\n]+)[\s\S]*?\r\n\r\n([\s\S]*)$/.exec(stdout) ?? [];
        if (status) expect(stated.split("\n")[0], command).toBe(status);
        const statedBody = stated.split("\n").at(-1) ?? "";
        if (statedBody.startsWith("{")) expectAlike(JSON.parse(body), JSON.parse(statedBody), command);
        else expect(body.trim(), command).toBe(statedBody);
        await world.settleAll();
        await world.recordAll();
        const answer = statedBody.startsWith("{") ? JSON.parse(body) : {};
        if (answer.file_id) variables["ID"] = answer.file_id;
        if (answer.next_cursor) variables["CURSOR"] = answer.next_cursor;
      }
      expect(await readFile(join(folder, "report.pdf"))).toEqual(readFileSync(join(ROOT, "files/report.pdf")));
      expect(await world.ledger()).toBe(3);
    } finally {
      await world.close();
      await rm(folder, { recursive: true });
    }
  });
});

/** What is another in every run; the rest of an answer has to be as stated. */
const VARIES = /^(file_id|id|stream_id|url|status_url|next_cursor|request_id|timestamp|as_of|took_ms|uptime_seconds|latency_ms|rate|\w+_time|\w+_at)$/;

function expectAlike(answer: any, stated: any, what: string): void {
  if (typeof stated !== "object" || stated === null) return expect(answer, what).toEqual(stated);
  expect(Object.keys(answer), what).toEqual(Object.keys(stated));
  for (const [key, value] of Object.entries(stated)) {
    if (VARIES.test(key)) expect(typeof answer[key], `${what}: ${key}`).toBe(typeof value);
    else expectAlike(answer[key], value, `${what}: ${key}`);
  }
}
