/** Durations, spans and rates as people type them, and figures as people read them. */

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const KIB = 1024, MIB = 1024 * KIB, GIB = 1024 * MIB;

export interface Span {
  leastMs: number;
  mostMs: number;
}

/** 250ms, 4s, 1.5m, 1h. @returns milliseconds; undefined when it is no duration */
export function readDuration(text: string): number | undefined {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text.trim()) ?? [];
  return unit === undefined ? undefined : Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** 1s..4s, or 2s for always the same; 0 for none. */
export function readSpan(text: string): Span | undefined {
  const [least = "", most = least, ...more] = text.split("..").map((part) => (part.trim() === "0" ? "0ms" : part));
  const leastMs = readDuration(least), mostMs = readDuration(most);
  return leastMs === undefined || mostMs === undefined || mostMs < leastMs || more.length > 0 ? undefined : { leastMs, mostMs };
}

/** 5/s, 300/m, 0.5/s. @returns how many a second */
export function readRate(text: string): number | undefined {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\/(s|m|h)$/.exec(text.trim()) ?? [];
  return unit === undefined ? undefined : (Number(digits) * 1000) / UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** 10KiB/s, 2.5MiB/s. @returns bytes a second */
export function readByteRate(text: string): number | undefined {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)\/s$/i.exec(text.trim()) ?? [];
  const factor = { b: 1, kib: KIB, mib: MIB, gib: GIB }[(unit ?? "").toLowerCase()];
  return factor === undefined ? undefined : Number(digits) * factor;
}

export function within(span: Span, random: () => number): number {
  return span.leastMs + random() * (span.mostMs - span.leastMs);
}

export function formatMs(ms: number | undefined): string {
  if (ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 7_200_000 ? `${(ms / 60_000).toFixed(1)} min` : `${(ms / 3_600_000).toFixed(1)} h`;
}

/** As somebody set it: 60 s, not 60.0 s. */
export function formatSetting(ms: number): string {
  return ms < 1000 && ms > 0 ? `${Number(ms.toFixed(1))} ms` : `${Number((ms / 1000).toFixed(1))} s`;
}

/** Binary units, as the site's limits are. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return `${Math.round(bytes)} B`;
  if (bytes < MIB) return `${digits(bytes / KIB)} KiB`;
  return bytes < GIB ? `${digits(bytes / MIB)} MiB` : `${digits(bytes / GIB)} GiB`;
}

export function formatCount(count: number): string {
  return Math.round(count).toLocaleString("en-GB");
}

export function formatRate(perSecond: number): string {
  return `${perSecond < 100 ? digits(perSecond) : formatCount(perSecond)}/s`;
}

/** Never rounds up to a whole hundred: 99.99 % is not all of them. */
export function formatShare(share: number | undefined): string {
  if (share === undefined) return "–";
  const percent = share * 100;
  if (percent > 99.99 && percent < 100) return "99.99 %";
  return `${Number.isInteger(percent) ? percent : percent.toFixed(percent < 1 || percent > 99 ? 2 : 1)} %`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

function digits(value: number): string {
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}
