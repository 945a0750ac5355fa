import { Failure, type FailureCode } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import { createPlaces } from "../http/places.ts";
import { createRefusals } from "../http/refusals.ts";
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

/** Request, answer, and their socket's buffers. */
const REQUEST_BYTES = 16 * 1024;
/** A small upload in memory: as its chunks, in one piece, in the record with its manifest, and in the store's own form. */
const COPIES_OF_SMALL = 4;
const KEPT_TIMES = 2;

export type Admission = ReturnType<typeof createAdmission>;

/**
 * Decides, before a byte of a body is read, whether this process takes an upload on: by how many are under way, by the
 * memory they hold (see createPlaces), by what waits in the inbox, and by the room on its disk.
 */
export function createAdmission({ store, smallObjectBytes, backlog, mostUploads, memoryBytes, minFreeBytes, log }: AdmissionSettings) {
  const places = createPlaces({ count: mostUploads, memoryBytes });
  const coming: Waiting = { uploads: 0, bytes: 0 }; // under way, and not accepted yet
  const note = createRefusals((code: FailureCode, refused) =>
    log.warn({ code, refused, ...underWay() }, "the door refuses uploads"));

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
    const takenBy = places.takenBy(address, needsBytes);
    if (takenBy === "all") throw new Failure("TOO_BUSY");
    if (takenBy === "address") throw new Failure("TOO_BUSY", "As many uploads are under way from your address as one may have. Try again in a moment.");
    const bringsBytes = sizeBytes ?? smallObjectBytes;
    backlog.assertRoom(coming, bringsBytes);
    if (!hasSpace(sizeBytes ?? 0)) throw new Failure("OUT_OF_SPACE");
    const giveBack = places.take(address, needsBytes);
    coming.uploads++;
    coming.bytes += bringsBytes;
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
        arrive();
        giveBack();
      },
    };
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

  function underWay(): { uploads: number; memoryBytes: number } {
    const { count, memoryBytes } = places.taken();
    return { uploads: count, memoryBytes };
  }

  return { admit, spaceWarning, underWay };
}
