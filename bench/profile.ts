import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";

/** V8's profile: a tree of calls, and which of them ran at each sample. */
interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  /** Microseconds since the sample before. */
  timeDeltas: number[];
}

export interface ProfileLine {
  where: string;
  selfMs: number;
  /** Of the time in which anything ran. */
  share: number;
}

export interface Profile {
  name: string;
  lines: ProfileLine[];
}

const SHOWN_LINES = 25;

/** Where the time went, in each profile of the folder: the functions in which most of it was spent themselves. */
export async function readProfiles(folder: string): Promise<Profile[]> {
  const profiles: Profile[] = [];
  for (const file of (await readdir(folder).catch(() => [])).sort()) {
    const profile = JSON.parse(await readFile(join(folder, file), "utf8")) as CpuProfile;
    profiles.push({ name: basename(file, ".cpuprofile"), lines: selfTimes(profile).slice(0, SHOWN_LINES) });
  }
  return profiles;
}

export function selfTimes({ nodes, samples, timeDeltas }: CpuProfile): ProfileLine[] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, describeFrame(callFrame)]));
  const micros = new Map<string, number>();
  let busy = 0;
  for (const [index, id] of samples.entries()) {
    const where = names.get(id) ?? "?";
    const took = timeDeltas[index + 1] ?? 0; // a sample stands for the time until the next one
    if (where === "(idle)") continue;
    busy += took;
    micros.set(where, (micros.get(where) ?? 0) + took);
  }
  return [...micros]
    .map(([where, took]) => ({ where, selfMs: took / 1000, share: took / busy }))
    .toSorted((a, b) => b.selfMs - a.selfMs);
}

/** Paths are cut to what follows the last node_modules or dist: where the checkout lies says nothing. */
function describeFrame({ functionName, url, lineNumber }: CpuProfile["nodes"][number]["callFrame"]): string {
  const name = functionName || "(anonymous)";
  if (url === "") return name;
  const place = url.replace(/^.*\/(node_modules|dist)\//, "");
  return `${name} ${place}:${lineNumber + 1}`;
}
