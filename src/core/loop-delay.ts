import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 10;
const MINUTE_MS = 60_000;

/** How long the event loop kept others waiting, in milliseconds. */
export interface LoopDelay {
  p99: number;
  max: number;
}

export type LoopDelayWatch = ReturnType<typeof watchLoopDelay>;

/** Watches the event loop: a timer every 10 ms that sees by how much it comes too late. */
export function watchLoopDelay() {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  let lastMinute: LoopDelay | undefined;
  histogram.enable();
  const timer = setInterval(() => {
    lastMinute = read();
    histogram.reset();
  }, MINUTE_MS);
  timer.unref();

  /** What the histogram holds is the time between two of its timer's turns. */
  function read(): LoopDelay {
    if (histogram.count === 0) return { p99: 0, max: 0 };
    return { p99: beyond(histogram.percentile(99)), max: beyond(histogram.max) };
  }

  /** Of the last full minute; in the first one, since the start. */
  function loopDelay(): LoopDelay {
    return lastMinute ?? read();
  }

  function stop(): void {
    clearInterval(timer);
    histogram.disable();
  }

  return { loopDelay, stop };
}

function beyond(nanoseconds: number): number {
  return Math.max(0, Math.round(nanoseconds / 1e5) / 10 - RESOLUTION_MS);
}
