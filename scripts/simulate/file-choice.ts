import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export interface ChosenFile {
  path: string;
  name: string;
  sizeBytes: number;
  sha256: string;
  /** Of a small one, so that thousands of clients do not wait for this machine's disk. */
  bytes: Buffer | undefined;
}

/** All of them are read once, for their hashes. */
const MOST_FILES = 1000;
const MOST_BYTES_OF_ONE = 1024 * 1024;
const MOST_BYTES_IN_MEMORY = 64 * 1024 * 1024;

/** The files of a folder, without its sub-folders, hidden and empty files. @throws Error in words when there is none */
export async function readFiles(folder: string): Promise<ChosenFile[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: Error) => {
    throw new Error(`--files: ${folder} cannot be read (${error.message}).`);
  });
  const names = entries.filter((entry) => entry.isFile() && !entry.name.startsWith(".")).map(({ name }) => name).sort();
  const files: ChosenFile[] = [];
  let inMemory = 0;
  for (const name of names.slice(0, MOST_FILES)) {
    const path = join(folder, name);
    const { size } = await stat(path);
    if (size === 0) continue; // The site refuses them, and rightly.
    const bytes = size <= MOST_BYTES_OF_ONE && inMemory + size <= MOST_BYTES_IN_MEMORY ? await readFile(path) : undefined;
    inMemory += bytes?.length ?? 0;
    files.push({ path, name, sizeBytes: size, sha256: await hash(path), bytes });
  }
  if (files.length === 0) throw new Error(`--files: there is no file in ${folder} that could be handed in.`);
  return files;
}

async function hash(path: string): Promise<string> {
  const digest = createHash("sha256");
  for await (const piece of createReadStream(path)) digest.update(piece as Buffer);
  return digest.digest("hex");
}

/** @returns `count` different files, or all there are */
export function chooseFiles(files: readonly ChosenFile[], count: number, random: () => number): ChosenFile[] {
  const left = [...files];
  return Array.from({ length: Math.min(count, files.length) }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}
