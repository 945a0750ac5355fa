import { Failure, type FailureCode } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { knowsItsDisk, type ObjectStore } from "../objects/object-store.ts";
import type { Backlog, Waiting } from "./backlog.ts";
import { INTAKE_MEMORY_BYTES } from "./intake.ts";

export interface AdmissionSettings {
  store: ObjectStore;
  smallObjectBytes: number;
  backlog: Backlog;
  mostUploads: number;
  memoryBytes: number;
  /** What uploads leave free of the inbox's disk. Undefined: twice what its store leaves free for itself. */
  minFreeBytes: number | undefined;
  log: Log;
}

/** An upload that was let in. Whoever has it gives it back, once; twice is no harm. */
export interface Place {
  /** Accepted: from now on it is a part of the backlog, and not on its way there. */
  accepted(sizeBytes: number): void;
  release(): void;
}

interface Share {
  uploads: number;
  memoryBytes: number;
}

/** Request, answer, and their socket's buffers. */
const REQUEST_BYTES = 16 * 1024;
/** A small upload in memory: as its chunks, in one piece, in the record with its manifest, and in the store's own form. */
const COPIES_OF_SMALL = 4;
const KEPT_TIMES = 2;
const LOG_EVERY_MS = 60_000;

export type Admission = ReturnType<typeof createAdmission>;

/**
 * Decides, before a byte of a body is read, whether this process takes an upload on: by how many are under way, by the
 * memory they hold, by what waits in the inbox, and by the room on its disk. One address has at most as much of the places
 * and of the memory as is free: the first gets half, the next one half of the rest, so that there is something left for one
 * who has nothing yet. An upload that is the only one is never too large for the memory.
 */
export function createAdmission({ store, smallObjectBytes, backlog, mostUploads, memoryBytes, minFreeBytes, log }: AdmissionSettings) {
  const all: Share = { uploads: 0, memoryBytes: 0 };
  const most: Share = { uploads: mostUploads, memoryBytes };
  const coming: Waiting = { uploads: 0, bytes: 0 }; // under way, and not accepted yet
  const addresses = new Map<string, Share>();
  const refusals = new Map<FailureCode, { count: number; loggedAt: number }>();

  /**
   * @param sizeBytes  as announced; undefined: the client does not say
   * @throws Failure TOO_BUSY, BACKLOG_FULL, OUT_OF_SPACE
   */
  function admit(address: string, sizeBytes: number | undefined): Place {
    try {
      return letIn(address, sizeBytes);
    } catch (error) {
      if (error instanceof Failure) note(error.code);
      throw error;
    }
  }

  function letIn(address: string, sizeBytes: number | undefined): Place {
    const needsBytes = memoryOf(sizeBytes ?? Number.POSITIVE_INFINITY);
    const own = addresses.get(address) ?? { uploads: 0, memoryBytes: 0 };
    if (!fits(needsBytes, all, most)) throw new Failure("TOO_BUSY");
    if (!fits(needsBytes, own, leftFor(needsBytes))) throw new Failure("TOO_BUSY", "As many uploads are under way from your address as one may have. Try again in a moment.");
    const bringsBytes = sizeBytes ?? smallObjectBytes;
    backlog.assertRoom(coming, bringsBytes);
    if (!hasSpace(sizeBytes ?? 0)) throw new Failure("OUT_OF_SPACE");
    take(all, 1, needsBytes);
    take(own, 1, needsBytes);
    addresses.set(address, own);
    coming.uploads++;
    coming.bytes += bringsBytes;
    let held = true;
    let isComing = true;
    const arrive = () => {
      if (!isComing) return;
      isComing = false;
      coming.uploads--;
      coming.bytes -= bringsBytes;
    };
    return {
      accepted(acceptedBytes) {
        arrive();
        backlog.accepted(acceptedBytes);
      },
      release() {
        if (!held) return;
        held = false;
        arrive();
        take(all, -1, -needsBytes);
        take(own, -1, -needsBytes);
        if (own.uploads === 0) addresses.delete(address);
      },
    };
  }

  /** What one address may have, so that it has no more than is free then. */
  function leftFor(needsBytes: number): Share {
    return { uploads: most.uploads - all.uploads, memoryBytes: most.memoryBytes - all.memoryBytes - needsBytes };
  }

  function memoryOf(sizeBytes: number): number {
    if (sizeBytes <= smallObjectBytes) return REQUEST_BYTES + COPIES_OF_SMALL * sizeBytes;
    return REQUEST_BYTES + INTAKE_MEMORY_BYTES + store.putMemoryBytes(sizeBytes);
  }

  /** The store leaves room of its own, for the index and for the worker; here the door closes before that is touched. */
  function hasSpace(sizeBytes: number): boolean {
    if (!knowsItsDisk(store) || minFreeBytes === 0) return true;
    const { freeBytes, keptBytes, spareBytes } = store.room();
    const lacking = (minFreeBytes ?? KEPT_TIMES * keptBytes) - (freeBytes - sizeBytes);
    if (lacking <= 0) return true;
    // The index never shrinks: where it filled the disk, small objects find room in it again and again.
    return sizeBytes <= store.smallObjectBytes && spareBytes() >= lacking + sizeBytes;
  }

  /** What to tell whoever runs it, while the door is closed for want of space. @throws Unavailable: the disk does not say */
  function spaceWarning(): string | undefined {
    if (!knowsItsDisk(store) || hasSpace(store.smallObjectBytes + 1)) return undefined;
    const refused = hasSpace(0) ? `only uploads up to ${store.smallObjectBytes} bytes find room, larger uploads are` : "every upload is";
    return `its disk is nearly full: ${refused} refused (507) until there is room. Free some of it, or give it more: MIN_FREE_BYTES of it are kept free`;
  }

  function note(code: FailureCode): void {
    const now = performance.now();
    const noted = refusals.get(code) ?? { count: 0, loggedAt: Number.NEGATIVE_INFINITY };
    refusals.set(code, noted);
    noted.count++;
    if (now - noted.loggedAt < LOG_EVERY_MS) return;
    log.warn({ code, refused: noted.count, underWay: all.uploads, memoryBytes: all.memoryBytes }, "the door refuses uploads");
    [noted.count, noted.loggedAt] = [0, now];
  }

  return { admit, spaceWarning, underWay: (): Readonly<Share> => all };
}

function fits(needsBytes: number, taken: Share, most: Share): boolean {
  return taken.uploads === 0 || (taken.uploads < most.uploads && taken.memoryBytes + needsBytes <= most.memoryBytes);
}

function take(share: Share, uploads: number, memoryBytes: number): void {
  share.uploads += uploads;
  share.memoryBytes += memoryBytes;
}
