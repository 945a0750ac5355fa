import { Failure } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { createPlaces } from "../http/places.ts";
import { createRefusals } from "../http/refusals.ts";

export type Downloads = ReturnType<typeof createDownloads>;

/**
 * Decides, before a file is opened, whether this process sends its bytes: a reader may be slow, and as long as it reads, its
 * download holds a descriptor or a connection to the bucket, and memory: whole up to 1.3 MiB, a range 1.7 (64 at once, measured).
 */
export function createDownloads({ mostDownloads, log }: { mostDownloads: number; log: Log }) {
  const places = createPlaces({ count: mostDownloads, memoryBytes: Number.POSITIVE_INFINITY });
  const note = createRefusals((code: "TOO_BUSY", refused) =>
    log.warn({ code, refused, underWay: places.taken().count }, "downloads are refused"));

  /** @returns what gives the place back, whatever ended the download; @throws Failure TOO_BUSY */
  function admit(address: string): () => void {
    const takenBy = places.takenBy(address);
    if (takenBy === undefined) return places.take(address);
    note("TOO_BUSY");
    throw new Failure("TOO_BUSY", takenBy === "all"
      ? "As many downloads are under way as the server can take. Try again in a moment."
      : "As many downloads are under way to your address as one may have. Try again in a moment.");
  }

  return { admit, underWay: () => places.taken().count };
}
