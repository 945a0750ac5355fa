import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");

const below = ["core", "db", "stream", "objects", "http"];
const MAY_IMPORT: Record<string, string[]> = {
  core: [], db: ["core"], stream: ["core"], http: ["core"], objects: ["core", "db"],
  accounts: below, files: [...below, "accounts"], uploads: [...below, "accounts", "files"],
  events: [...below, "accounts"], pools: [...below, "accounts", "files", "uploads"],
  main: [...below, "accounts", "files", "uploads", "events", "pools"],
};

/** [what, where alone it may stand] */
const ONLY_IN: [RegExp, RegExp][] = [
  [/process\.env/, /^src\/main\//],
  [/\.query[<(]/, /(^src\/db\/|[/-]queries\.ts$|^src\/main\/ready\.ts$)/],
];
const BANNED_NAMES = /(^|\/)(utils?|helpers?|common|types|index)(\.|\/)|\b(manager|service)\b/;
const MOST_LINES = 320;

interface Source {
  path: string;
  text: string;
}

function violations({ path, text }: Source): string[] {
  const found: string[] = [];
  const room = /^src\/(\w+)\//.exec(path)?.[1];
  if (!room || !(room in MAY_IMPORT)) return [`${path}: no such room`];
  for (const [, specifier] of text.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)) {
    const target = /^src\/(\w+)\//.exec(posix.join(posix.dirname(path), specifier!))?.[1]; // a room may have rooms of its own
    if (!target) found.push(`${path}: reaches out of src with ${specifier}`);
    else if (target !== room && !MAY_IMPORT[room]!.includes(target)) found.push(`${path}: ${room} must not import ${target}`);
    else if (target !== room && /(^|[/-])queries\.ts$/.test(specifier!)) found.push(`${path}: reads another slice's SQL`);
  }
  for (const [what, where] of ONLY_IN) {
    if (what.test(text) && !where.test(path)) found.push(`${path}: ${what} does not belong here`);
  }
  if (BANNED_NAMES.test(path)) found.push(`${path}: says nothing by its name`);
  if (text.split("\n").length > MOST_LINES) found.push(`${path}: is longer than ${MOST_LINES} lines`);
  return found;
}

function sources(): Source[] {
  return readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => ({ path: relative(ROOT, file).split(sep).join("/"), text: readFileSync(file, "utf8") }));
}

describe("the shape of the house", () => {
  test("imports run one way, SQL and settings are where they belong, files are short and named for what they are", () => {
    const all = sources();
    expect(all.length).toBeGreaterThan(30);
    expect(all.flatMap(violations)).toEqual([]);
  });

  test.each([
    ["a room that imports one above it", "src/stream/x.ts", 'import { a } from "../uploads/inbox.ts";'],
    ["a room in a room that imports one above it", "src/uploads/live/x.ts", 'import { a } from "../../main/context.ts";'],
    ["a way out of the house", "src/uploads/live/x.ts", 'import { a } from "../../../scripts/x.ts";'],
    ["a slice that reads another's SQL", "src/uploads/x.ts", 'import * as q from "../files/queries.ts";'],
    ["settings read outside main", "src/http/x.ts", "const a = process.env.PORT;"],
    ["SQL outside queries.ts", "src/files/x.ts", 'await db.query("select 1");'],
    ["a name that says nothing", "src/core/utils.ts", ""],
    ["a room nobody planned", "src/stuff/x.ts", ""],
    ["a file without end", "src/core/x.ts", "\n".repeat(MOST_LINES + 1)],
  ])("%s is found", (_what, path, text) => {
    expect(violations({ path, text })).not.toEqual([]);
  });
});
