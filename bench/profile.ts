import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";

/** V8's profile: a tree of calls, and which of them ran at each sample. */
interface CpuProfile {
  nodes: { id: number; callFrame: CallFrame }[];
  samples: number[];
  /** Microseconds since the sample before. */
  timeDeltas: number[];
}

export interface CallFrame {
  functionName: string;
  /** Empty: it is V8's or native. */
  url: string;
  lineNumber: number;
}

export interface ProfileLine {
  where: string;
  selfMs: number;
  /** Of the time in which anything ran. */
  share: number;
}

export interface Profile {
  name: string;
  /** By package, by file of ours, by module of Node's. */
  places: ProfileLine[];
  /** By function. */
  functions: ProfileLine[];
}

const SHOWN_LINES = 20;

/** Where the time went, in each profile of the folder, most of it first. */
export async function readProfiles(folder: string): Promise<Profile[]> {
  const profiles: Profile[] = [];
  for (const file of (await readdir(folder).catch(() => [])).sort()) {
    const profile = JSON.parse(await readFile(join(folder, file), "utf8")) as CpuProfile;
    profiles.push({
      name: basename(file, ".cpuprofile"),
      places: selfTimes(profile, placeOf).slice(0, SHOWN_LINES),
      functions: selfTimes(profile, nameOf).slice(0, SHOWN_LINES),
    });
  }
  return profiles;
}

/** The time spent in functions themselves, not in what they call, summed up by the name that `group` gives them. */
export function selfTimes({ nodes, samples, timeDeltas }: CpuProfile, group: (frame: CallFrame) => string): ProfileLine[] {
  const names = new Map(nodes.map(({ id, callFrame }) => [id, group(callFrame)]));
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

/** "put uploads/inbox.js:52" */
export function nameOf(frame: CallFrame): string {
  const name = frame.functionName || "(anonymous)";
  return frame.url === "" ? name : `${name} ${pathOf(frame)}:${frame.lineNumber + 1}`;
}

/** A package's name, a file of ours, a module of Node's; native functions under their own name. */
export function placeOf(frame: CallFrame): string {
  if (frame.url === "") return nameOf(frame);
  if (!frame.url.includes("/node_modules/")) return pathOf(frame);
  return /^(@[^/]+\/)?[^/]+/.exec(pathOf(frame))?.[0] ?? pathOf(frame);
}

/** Cut to what follows the last node_modules, or our dist: where the checkout lies says nothing. */
function pathOf({ url }: CallFrame): string {
  return url.includes("/node_modules/") ? url.replace(/^.*\/node_modules\//, "") : url.replace(/^.*\/dist\//, "");
}
