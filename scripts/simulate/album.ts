/** What those saw for whom something failed: one picture of each. */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import type { Trouble } from "./tally.ts";

export interface Picture {
  user: string;
  kind: Trouble["kind"] | "missing";
  detail: string;
  /** Since the load began. */
  atMs: number;
  /** The receipt's page as it was at the end, because the failure was found after the person had left. */
  isReceipt: boolean;
  /** A data: address, or one relative to the report. */
  address: string;
}

export type Album = ReturnType<typeof createAlbum>;

/** In the report itself, at about 20 KB each; the others are files beside it. */
const MOST_EMBEDDED = 12;

/** @param reportFile  beside which the pictures are put that it does not hold itself */
export function createAlbum({ reportFile, elapsedMs }: { reportFile: string; elapsedMs: () => number }) {
  const folderName = `${basename(reportFile, extname(reportFile))}-screenshots`;
  const folder = join(reportFile, "..", folderName);
  const failed = new Set<string>(), taken = new Set<string>();
  const pictures: Picture[] = [];

  let embedded = 0;

  async function keep(jpeg: Uint8Array, user: string): Promise<string> {
    if (embedded++ < MOST_EMBEDDED) return `data:image/jpeg;base64,${Buffer.from(jpeg).toString("base64")}`;
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${user}.jpg`), jpeg);
    return `${encodeURIComponent(folderName)}/${encodeURIComponent(user)}.jpg`;
  }

  return {
    pictures,
    /** Users for whom something failed without anything to be seen of it: their browser was gone, or did not answer. */
    unseen: () => [...failed].filter((user) => !taken.has(user)).length,
    /** Of each user the first failure is kept of which there is a picture. */
    async add({ user, kind, detail, isReceipt = false }: { user: string; kind: Picture["kind"]; detail: string; isReceipt?: boolean }, shoot: () => Promise<Uint8Array | undefined>): Promise<void> {
      failed.add(user);
      if (taken.has(user)) return;
      taken.add(user);
      const atMs = elapsedMs();
      let address: string | undefined;
      try {
        const jpeg = await shoot();
        address = jpeg && await keep(jpeg, user);
      } finally {
        if (address) pictures.push({ user, kind, detail, atMs, isReceipt, address });
        else taken.delete(user); // a later failure may be seen
      }
    },
  };
}
