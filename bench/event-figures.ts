import type pg from "pg";

/** What the bench asks of the events and of the figures that are kept with them. */
export function openEventFigures(client: pg.Client) {
  /** Of the figures: a few rows, cheap enough to be asked twenty times a second. */
  async function recorded(): Promise<number> {
    const { rows } = await client.query<{ events: string }>("select coalesce(sum(events), 0) as events from event_quarters");
    return Number(rows[0]?.events);
  }

  /** By counting all there is. @returns what is wrong, when so many events were acknowledged */
  async function compare(acknowledged: number, withIds: boolean): Promise<string | undefined> {
    const { rows } = await client.query<Record<"rows" | "quarters" | "views" | "paths" | "path_days" | "user_days" | "days" | "ids" | "dead", string>>(
      `select (select count(*) from events) as rows,
              (select coalesce(sum(events), 0) from event_quarters) as quarters,
              (select count(*) from events where event_type = 'pageview' and path is not null) as views,
              (select coalesce(sum(views), 0) from event_paths) as paths,
              (select coalesce(sum(views), 0) from event_path_days) as path_days,
              (select count(*) from event_user_days) as user_days,
              (select coalesce(sum(users), 0) from event_days) as days,
              (select count(*) from event_ids) as ids,
              (select count(*) from event_dead_letters) as dead`);
    const found = Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, count]) => [name, Number(count)]));
    const isRight = found["rows"] === acknowledged && found["quarters"] === acknowledged && found["paths"] === found["views"]
      && found["path_days"] === found["views"] && found["days"] === found["user_days"] && found["ids"] === (withIds ? acknowledged : 0);
    return isRight ? undefined : `${acknowledged} events were acknowledged; the database has ${JSON.stringify(found)}`;
  }

  return { recorded, compare };
}
export type EventFigures = ReturnType<typeof openEventFigures>;
