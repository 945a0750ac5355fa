/**
 * How the pages write figures. public/format.js says the same for the browser: change both.
 * A figure nobody knows (null) is a dash, never a zero.
 */
const UNKNOWN = "–";
const BYTE_UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** 0 -> "0 bytes", 1536 -> "1.5 KiB", 5368709120 -> "5 GiB". Binary units, as the limits are set in them. */
export function formatBytes(sizeBytes: number | null): string {
  if (sizeBytes === null) return UNKNOWN;
  if (sizeBytes < 1024) return sizeBytes === 1 ? "1 byte" : `${sizeBytes} bytes`;
  let value = sizeBytes / 1024;
  let unit = 0;
  // 1023.95 would read "1024.0 KiB": the next unit begins where the rounded figure would reach 1024.
  while (value >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trimmed(value, value < 100 ? 1 : 0)} ${BYTE_UNITS[unit]}`;
}

/** 1234567 -> "1,234,567", 12.34 -> "12.3", 10240000000 -> "10.24 billion" (all digits would not fit a card). */
export function formatCount(count: number | null): string {
  if (count === null) return UNKNOWN;
  if (count >= 1e9) return `${trimmed(count / 1e9, 2)} billion`;
  const digits = Number.isInteger(count) || count >= 100 ? 0 : 1;
  const [whole = "", fraction] = count.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined || fraction === "0" ? grouped : `${grouped}.${fraction}`;
}

/** 0.412 -> "412 ms", 4.2 -> "4.2 s", 725 -> "12 min 5 s", 273600 -> "3 d 4 h": two units are enough to read. */
export function formatDuration(seconds: number | null): string {
  if (seconds === null) return UNKNOWN;
  if (seconds < 0.9995) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  if (seconds < 9.95) return `${trimmed(seconds, 1)} s`;
  const whole = Math.round(seconds);
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first, first + 2)
    .filter(([value]) => value > 0)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(" ");
}

/** "2025-11-07 12:30:00 UTC": one zone for everybody, the ledger's own. */
export function formatTime(instant: Date | null): string {
  if (instant === null) return UNKNOWN;
  return `${instant.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function trimmed(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
