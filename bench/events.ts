/** Analytics events: how fast does the door take them, how soon are they figures, and how fast are the figures answered? */
import { measureEventBatches, type BatchRun } from "./event-batches.ts";
import { measureEventDoor, type DoorResult } from "./event-door.ts";
import { measureEventStats, type EventStatsResult } from "./event-stats.ts";
import type { EventPart } from "./options.ts";
import type { WorkerTools } from "./worker.ts";

/** The parts that were not asked for, or broke, are absent. */
export interface EventsResult {
  door?: DoorResult;
  /** Of all rounds. */
  batches?: BatchRun[];
  stats?: EventStatsResult;
}

export async function measureEvents(tools: WorkerTools): Promise<EventsResult> {
  const result: EventsResult = {};
  const parts: Record<EventPart, () => Promise<void>> = {
    async door() {
      result.door = await measureEventDoor(tools);
    },
    async batches() {
      result.batches = await measureEventBatches(tools);
    },
    async stats() {
      result.stats = await measureEventStats(tools);
    },
  };
  for (const part of tools.options.eventParts) {
    await parts[part]().catch((error: Error) => tools.problem(`events, ${part}: ${error.message}`));
  }
  return result;
}
