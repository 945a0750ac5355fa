// How fast bytes move, from what was sent in the last seconds: long enough not to jump, short enough to notice a stall.
const WINDOW_MS = 6_000;
const LEAST_MS = 500; // of watching, before a figure is worth saying

export function createSpeed() {
  let samples = []; // { at, bytes }: bytes sent since the beginning, in all

  return {
    /** @param bytes sent so far; less than before means that sending began again further back */
    add(bytes, at = performance.now()) {
      if (samples.length > 0 && bytes < samples.at(-1).bytes) samples = [];
      const last = samples.at(-1);
      if (last && at - last.at < 100) last.bytes = bytes;
      else samples.push({ at, bytes });
      while (samples.length > 2 && samples[1].at < at - WINDOW_MS) samples.shift();
    },
    forget() {
      samples = [];
    },
    /** Bytes a second, or null while it is too early to say. */
    perSecond(at = performance.now()) {
      if (samples.length === 0 || at - samples[0].at < LEAST_MS) return null;
      return ((samples.at(-1).bytes - samples[0].bytes) / (at - samples[0].at)) * 1000;
    },
  };
}
