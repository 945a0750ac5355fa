import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
setFlagsFromString("--no-incremental-marking");
const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;

const YOUNG_BYTES = 24 * 1024 * 1024;
const OLD_BYTES = 40 * 1024 * 1024;
const LOOK_EVERY_MS = 500;
let passedBytes = 0;

/**
 * Told of every chunk that streams through, this has V8 collect young garbage in time.
 *
 * A socket's chunk is 64 KiB outside the heap. Left alone, V8 begins to mark its whole heap whenever 64 MiB of them have
 * gathered: 39 times for a gigabyte, 13 ms of the main thread each and as much of other threads, together a third of all
 * the time (Node 20). Nearly all chunks are young and dead, and collecting only the young takes half a millisecond, so
 * the 64 MiB are never reached, and so much less memory is held.
 *
 * With many uploads side by side V8 still began to mark, in steps and on other threads, ten times a second. Marking at
 * one go instead happens once a second at most and takes 20 ms on our heap of 20 MB; CPU for 10 MiB from 16 clients
 * went from 21 to 15 ms.
 */
export function passGarbage(sizeBytes: number): void {
  passedBytes += sizeBytes;
  if (passedBytes < YOUNG_BYTES) return;
  passedBytes = 0;
  collect({ type: "minor" });
}

/**
 * From now on has V8 collect all garbage when so much of it has gathered in the heap.
 *
 * Without its steps V8 looks at its limit only when something is made in the old part of the heap, not when collecting the
 * young moves what is left of it there; and that can be everything. lmdb links each write to the next, so one that grew old
 * keeps all that follow from being collected as young, dead or not: a web process whose heap has 24 MB in use grew to 110
 * within 20 seconds, and in the soak to 289 MiB in all.
 */
export function collectOldGarbage(): void {
  let inUseBytes = getHeapStatistics().used_heap_size;
  const look = () => {
    const { used_heap_size: usedBytes } = getHeapStatistics();
    if (usedBytes > inUseBytes + OLD_BYTES) {
      collect(); // all of it: in Node 20 any argument means the young
      inUseBytes = getHeapStatistics().used_heap_size;
    } else {
      inUseBytes = Math.min(inUseBytes, usedBytes);
    }
  };
  setInterval(look, LOOK_EVERY_MS).unref();
}
