/**
 * The machine's own apt sources, read so that packages come from the mirror its owner chose.
 * Both spellings are understood: deb822 stanzas (`*.sources`) and one-line entries (`*.list`).
 */
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";

export interface AptSource {
  uris: string[];
  suites: string[];
  components: string[];
  /** What makes the mirror trusted and reachable, e.g. Signed-By; passed on unread. */
  options: Record<string, string>;
}

/** Release files name these suites instead of a codename on machines that follow a moving release. */
const MOVING_SUITES = ["oldstable", "stable", "testing", "unstable", "sid"];

export async function readAptSources(folder = "/etc/apt"): Promise<AptSource[]> {
  const parts = await readdir(join(folder, "sources.list.d")).catch(() => []);
  const files = ["sources.list", ...parts.toSorted().map((name) => join("sources.list.d", name))];
  const sources: AptSource[] = [];
  for (const file of files) {
    const parse = file.endsWith(".sources") ? parseStanzas : file.endsWith(".list") ? parseLines : undefined;
    const text = parse && (await readFile(join(folder, file), "utf8").catch(() => ""));
    if (parse && text) sources.push(...parse(text));
  }
  return sources;
}

/** Reads deb822 stanzas; disabled ones and source-only ones are left out. */
export function parseStanzas(text: string): AptSource[] {
  const sources: AptSource[] = [];
  const withoutComments = text.split("\n").filter((line) => !line.startsWith("#"));
  for (const stanza of withoutComments.join("\n").split(/\n[ \t]*\n/)) {
    const fields = readFields(stanza);
    const words = (name: string) => (fields[name] ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || fields["enabled"]?.toLowerCase() === "no") continue;
    const { "signed-by": signedBy, trusted } = fields;
    sources.push({
      uris: words("uris"), suites: words("suites"), components: words("components"),
      options: { ...(signedBy && { "Signed-By": signedBy }), ...(trusted && { Trusted: trusted }) },
    });
  }
  return sources;
}

function readFields(stanza: string): Record<string, string> {
  const fields: Record<string, string> = {};
  let name = "";
  for (const line of stanza.split("\n")) {
    const start = /^([\w-]+):\s*(.*)$/.exec(line);
    if (start?.[1] !== undefined) fields[(name = start[1].toLowerCase())] = start[2] ?? "";
    // A continuation line: keys written out in Signed-By need their line breaks kept.
    else if (name && /^\s/.test(line)) fields[name] += `\n${line}`;
  }
  return fields;
}

/** Reads one-line entries: `deb [options] uri suite component…`. */
export function parseLines(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const entry = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (!entry?.[2] || !entry[3]) continue;
    const options: Record<string, string> = {};
    for (const [, key, value] of (entry[1] ?? "").matchAll(/([\w-]+)=(\S+)/g)) {
      if (key === "signed-by" && value) options["Signed-By"] = value.replaceAll(",", " ");
      if (key === "trusted" && value) options["Trusted"] = value;
    }
    sources.push({
      uris: [entry[2]], suites: [entry[3]], components: (entry[4] ?? "").split(/\s+/).filter(Boolean), options,
    });
  }
  return sources;
}

/** The distribution's own sources: third-party ones cost time and may be unreachable. */
export function ownSources(sources: AptSource[], codename: string): AptSource[] {
  const releases = [codename, ...MOVING_SUITES];
  const wanted = releases.flatMap((release) => [release, `${release}-updates`, `${release}-security`]);
  return sources
    .map((source) => ({
      ...source,
      uris: source.uris.filter((uri) => !uri.startsWith("cdrom:")),
      suites: source.suites.filter((suite) => wanted.includes(suite)),
      components: source.components.filter((component) => component === "main" || component === "universe"),
    }))
    .filter((source) => source.uris.length > 0 && source.suites.length > 0 && source.components.length > 0);
}

/** Another suite on the mirror that carries the machine's own release; undefined where there is none. */
export function otherSuite(sources: AptSource[], codename: string, suite: string): AptSource | undefined {
  const own = ownSources(sources, codename);
  const base = own.find((source) => source.suites.some((name) => name === codename || MOVING_SUITES.includes(name)));
  return base && { ...base, suites: [suite], components: ["main"] };
}

/** Writes sources as deb822, the one spelling that can carry everything the other can. */
export function formatSources(sources: AptSource[]): string {
  return sources
    .map((source) => {
      const lines = [
        "Types: deb", `URIs: ${source.uris.join(" ")}`, `Suites: ${source.suites.join(" ")}`,
        `Components: ${source.components.join(" ")}`,
        ...Object.entries(source.options).map(([name, value]) => `${name}: ${value}`),
      ];
      return `${lines.join("\n")}\n`;
    })
    .join("\n");
}
