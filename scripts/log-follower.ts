/** Shows a log file's warnings and errors on the terminal as they are written. */
import { open, rename, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 250;
const MOST_BYTES_A_POLL = 256 * 1024;
/** A log larger than this is put aside at the next start; one older log is kept. */
const ROTATE_BYTES = 20 * 1024 ** 2;
const SHOWN_LEVELS = ["warn", "error", "fatal"];

export interface LogFollower {
  /** Shows what is still unread, then ends. */
  close(): Promise<void>;
}

/**
 * Follows what is written from now on. The file is read, not a pipe: a process that writes to a file does not care
 * whether its supervisor lives.
 */
export async function followLog(name: string, file: string, report: (line: string) => void): Promise<LogFollower> {
  let position = await stat(file).then(({ size }) => size, () => 0);
  const closing = new AbortController();
  async function runOnce(): Promise<void> {
    const { text, sizeBytes } = await readLines(file, position);
    position += sizeBytes;
    for (const line of text.split("\n")) {
      const notice = formatNotice(name, line);
      if (notice) report(notice);
    }
  }
  const running = (async () => {
    while (!closing.signal.aborted) {
      await runOnce();
      await sleep(POLL_MS, undefined, { signal: closing.signal }).catch(() => undefined);
    }
    await runOnce();
  })();
  return { async close() { closing.abort(); await running; } };
}

/** Reads whole lines, so that no character is cut in two; a line longer than the buffer is skipped in pieces. */
async function readLines(file: string, position: number): Promise<{ text: string; sizeBytes: number }> {
  const handle = await open(file, "r").catch(() => undefined);
  if (!handle) return { text: "", sizeBytes: 0 };
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(MOST_BYTES_A_POLL), 0, MOST_BYTES_A_POLL, position);
    const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
    if (end === 0 && bytesRead === MOST_BYTES_A_POLL) return { text: "", sizeBytes: bytesRead };
    return { text: buffer.toString("utf8", 0, end), sizeBytes: end };
  } finally {
    await handle.close();
  }
}

/** @returns what a person should see of a log line; undefined for what is only of use in the file */
export function formatNotice(name: string, line: string): string | undefined {
  if (!line.trim()) return undefined;
  let entry: { level?: unknown; msg?: string; err?: { message?: string } } | null;
  try {
    entry = JSON.parse(line) as typeof entry;
  } catch {
    return `${name}: ${line}`; // Not a log entry: Node itself, saying why it died.
  }
  if (typeof entry?.level !== "string" || !SHOWN_LEVELS.includes(entry.level)) return undefined;
  const cause = entry.err?.message ? `: ${entry.err.message}` : "";
  return `${name} ${entry.level === "warn" ? "warning" : "error"}: ${entry.msg ?? ""}${cause}`;
}

/** Puts a log aside that grew too large. */
export async function rotateLog(file: string): Promise<void> {
  const sizeBytes = await stat(file).then(({ size }) => size, () => 0);
  if (sizeBytes > ROTATE_BYTES) await rename(file, `${file}.1`);
}
