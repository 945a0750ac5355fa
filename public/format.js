// How the pages write figures, in the browser. src/http/format.ts says the same for the server: change both.
const UNKNOWN = "–";
const BYTE_UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

export function formatBytes(sizeBytes) {
  if (sizeBytes === null) return UNKNOWN;
  if (sizeBytes < 1024) return sizeBytes === 1 ? "1 byte" : `${sizeBytes} bytes`;
  let value = sizeBytes / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trimmed(value, value < 100 ? 1 : 0)} ${BYTE_UNITS[unit]}`;
}

export function formatCount(count) {
  if (count === null) return UNKNOWN;
  if (count >= 1e9) return `${trimmed(count / 1e9, 2)} billion`;
  const digits = Number.isInteger(count) || count >= 100 ? 0 : 1;
  const [whole, fraction] = count.toFixed(digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined || fraction === "0" ? grouped : `${grouped}.${fraction}`;
}

export function formatDuration(seconds) {
  if (seconds === null) return UNKNOWN;
  if (seconds < 0.9995) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  if (seconds < 9.95) return `${trimmed(seconds, 1)} s`;
  const whole = Math.round(seconds);
  const parts = [
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

export function formatTime(instant) {
  if (instant === null) return UNKNOWN;
  return `${instant.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function trimmed(value, digits) {
  return String(Number(value.toFixed(digits)));
}
