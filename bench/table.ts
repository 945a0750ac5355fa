import type { Ratio } from "./arithmetic.ts";

const MEGABYTE = 1_000_000;
export const NOTHING = "–";

/** Rows may be shorter than the head. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, 3, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${widths.map((width, column) => (cells[column] ?? "").padEnd(width)).join(" | ")} |`;
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)].join("\n");
}

export function decimal(value: number | undefined, digits: number): string {
  return value === undefined || Number.isNaN(value) ? NOTHING : value.toFixed(digits);
}

export function megabytes(bytes: number | undefined): string {
  return bytes === undefined ? NOTHING : (bytes / MEGABYTE).toFixed(0);
}

/** With the lowest and the highest round. */
export function spread(ratio: Ratio | undefined): string {
  return ratio === undefined ? NOTHING : `${ratio.median.toFixed(2)} (${ratio.lowest.toFixed(2)} to ${ratio.highest.toFixed(2)})`;
}
