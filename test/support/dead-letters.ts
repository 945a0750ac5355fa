import { expect } from "vitest";
import { eventually } from "./eventually.ts";
import { fetch } from "./fetch.ts";
import { inboxKeys, type World } from "./world.ts";

/** What tests of dead letters do with a world; `world` is asked for anew each time, since each test has its own. */
export function deadLettersIn(world: () => World) {
  const api = (path: string, method = "GET", headers: Record<string, string> = {}) => fetch(`${world().url}/api/dead-letters${path}`, { method, headers });
  const statusOf = async (id: string) => (await fetch(`${world().url}/api/files/${id}/status`)).json();
  const letters = () => world().sql("select upload_id from dead_letters");
  const refuse = () => world().sql("alter table files add constraint refused check (name not like 'bad%')");
  const allow = () => world().sql("alter table files drop constraint refused");

  /** Uploads that the database refuses until allow(). */
  async function makeDead(count = 1, bytes: string | Uint8Array = "bytes", headers: Record<string, string> = {}): Promise<string[]> {
    await refuse();
    const ids: string[] = [];
    for (let i = 0; i < count; i++) ids.push((await (await world().put(`bad-${i}.bin`, bytes, headers)).json()).file_id);
    await world().settleAll();
    return ids;
  }

  /** Resolves when a statement waits for another one's lock. */
  async function somebodyWaits(): Promise<void> {
    await eventually(async () => (await world().sql("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")).length, 1);
  }

  async function nothingLeft(): Promise<void> {
    expect(await letters()).toEqual([]);
    expect(await world().sql("select upload_id from settle_attempts")).toEqual([]);
    expect(await inboxKeys(world())).toEqual([]);
    expect(await world().redis.xlen(world().stream)).toBe(0);
  }

  return { api, statusOf, letters, refuse, allow, makeDead, somebodyWaits, nothingLeft };
}
