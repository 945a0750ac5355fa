import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
setFlagsFromString("--no-incremental-marking");
setFlagsFromString("--heap-growing-percent=50");
const collect = runInNewContext("gc") as (options: { type: "minor" }) => void;

const COLLECT_EVERY_BYTES = 24 * 1024 * 1024;
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
 *
 * Without steps V8 no longer tidies up in idle times either, and it lets the old garbage grow to four times of what is
 * alive before it looks (less under a limit of memory): a worker that went through one outage of S3 after the other held
 * 262 MiB. At half as much again it is 180, and neither door nor worker is measurably slower.
 */
export function passGarbage(sizeBytes: number): void {
  passedBytes += sizeBytes;
  if (passedBytes < COLLECT_EVERY_BYTES) return;
  passedBytes = 0;
  collect({ type: "minor" });
}
