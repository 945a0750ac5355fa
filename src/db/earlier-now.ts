import type { Clock } from "../core/clock.ts";
import type { Db } from "./pool.ts";

/**
 * What time it is by the clock that is behind, ours or the database's: where one of them is ahead, nothing expires early.
 * @throws Unavailable
 */
export async function earlierNow(db: Db, clock: Clock): Promise<Date> {
  const { rows } = await db.query<{ now: Date }>("select clock_timestamp() as now");
  return new Date(Math.min(rows[0]!.now.getTime(), clock.now().getTime()));
}
