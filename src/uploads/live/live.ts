import type { Log } from "../../core/log.ts";
import type { EventStream } from "../../http/event-stream.ts";
import { describeListed } from "../../files/routes.ts";
import type { Files } from "../../files/files.ts";
import { orNull } from "../../core/or-null.ts";
import type { Figures, LiveFigures } from "./live-figures.ts";

export interface LiveSettings {
  stream: Pick<EventStream, "send">;
  figures: Pick<LiveFigures, "read">;
  files: Pick<Files, "list">;
  /** Whose recent uploads are told; everybody's while there is one account. */
  ownerId: string;
  everyMs?: number;
  log: Log;
}

export const EVERY_MS = 2_000;
const RECENT_FILES = 10;
const FRESH_MS = 1_000;

export type Live = ReturnType<typeof createLive>;

/**
 * The one reader of the dashboard's figures in this process. It reads while somebody listens, and tells all of them at once:
 * "figures" with every reading, "recent" when the newest uploads are others than before, or have come further.
 */
export function createLive({ stream, figures, files, ownerId, everyMs = EVERY_MS, log }: LiveSettings) {
  let timer: NodeJS.Timeout | undefined;
  let ticking: Promise<void> | undefined;
  let reading: Promise<Figures> | undefined;
  let last: { at: number; figures: Figures } | undefined;
  let told = "";
  let reads = 0;

  /** Somebody listens from now on. */
  function start(): void {
    timer ??= setInterval(() => void tick(), everyMs).unref();
    void tick();
  }

  function stop(): void {
    clearInterval(timer);
    [timer, last, told] = [undefined, undefined, ""];
  }

  /** One at a time: where a reading takes longer than the pause, the next one waits for it. */
  function tick(): Promise<void> {
    return (ticking ??= tell().catch((err: unknown) => log.error({ err }, "the live figures could not be read")).finally(() => (ticking = undefined)));
  }

  async function tell(): Promise<void> {
    const [now, recent] = await Promise.all([read(), recentFiles()]);
    if (!timer) return;
    await stream.send("figures", now);
    const text = JSON.stringify(recent);
    if (text === told || !timer) return;
    told = text;
    await stream.send("recent", { files: recent });
  }

  /** The figures of this moment, or of the last second. */
  async function latest(): Promise<Figures> {
    return last && performance.now() - last.at < FRESH_MS ? last.figures : read();
  }

  function read(): Promise<Figures> {
    return (reading ??= readNow().finally(() => (reading = undefined)));
  }

  async function readNow(): Promise<Figures> {
    reads++;
    const now = await figures.read();
    last = { at: performance.now(), figures: now };
    return now;
  }

  /** Null: the database does not answer. */
  async function recentFiles() {
    const found = await orNull(files.list(ownerId, { limit: RECENT_FILES, status: "any" }));
    return found && found.files.map(describeListed);
  }

  return { start, stop, latest, reads: () => reads };
}
