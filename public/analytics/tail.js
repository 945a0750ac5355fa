// The latest events, as they come: rows that stay are not touched.
import { timesIn } from "./zone-time.js";

const main = document.querySelector("#main");
const table = document.querySelector("#latest-table");
const rows = document.querySelector("#latest-rows");
const template = document.querySelector("#event-row");
const empty = document.querySelector("#latest-empty");
const unknown = document.querySelector("#latest-unknown");

const zoneTime = timesIn(main.dataset.zone);

export function showLatest(events) {
  const known = new Map([...rows.children].map((row) => [row.dataset.id, row]));
  const isFirst = known.size === 0 && !unknown.hidden; // what was there before the database answered is no news
  let next = rows.firstElementChild;
  for (const event of events) {
    const row = known.get(String(event.id));
    known.delete(String(event.id));
    if (row !== undefined && row === next) next = next.nextElementSibling;
    else rows.insertBefore(row ?? rowOf(event, !isFirst), next);
  }
  for (const row of known.values()) row.remove();
  table.hidden = events.length === 0;
  empty.hidden = events.length > 0;
  unknown.hidden = true;
}

function rowOf({ id, event_type, path, user_id, timestamp }, isNew) {
  const row = template.content.firstElementChild.cloneNode(true);
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const put = (name, text) => {
    field(name).textContent = text ?? "–";
    field(name).title = text ?? "";
  };
  row.dataset.id = id;
  row.classList.toggle("fresh", isNew);
  field("time").dateTime = timestamp;
  field("time").textContent = zoneTime(new Date(timestamp));
  put("type", event_type);
  put("path", path);
  put("user", user_id);
  return row;
}
