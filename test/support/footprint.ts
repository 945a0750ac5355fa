import type { Program } from "./program.ts";

/** What a process takes of the machine: anonymous memory in kilobytes, and open descriptors. */
export interface Footprint {
  memoryKb: number;
  descriptors: number;
}

export function footprintOf(program: Program): Footprint {
  return { memoryKb: program.memory("RssAnon"), descriptors: program.descriptors() };
}

/** In what a process grew by more than is allowed; empty: it is back to where it was. */
export function findGrowth(before: Footprint, now: Footprint, allowed: Footprint): string[] {
  const mib = (kb: number) => Math.round(kb / 1024);
  const wrong: string[] = [];
  if (now.memoryKb > before.memoryKb + allowed.memoryKb) wrong.push(`a process holds ${mib(now.memoryKb)} MiB of memory; it had ${mib(before.memoryKb)}, and ${mib(allowed.memoryKb)} more are allowed`);
  if (now.descriptors > before.descriptors + allowed.descriptors) wrong.push(`a process has ${now.descriptors} descriptors open; it had ${before.descriptors}, and ${allowed.descriptors} more are allowed`);
  return wrong;
}
