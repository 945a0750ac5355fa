// The list of uploads, and the search in it.
import { formatBytes, formatCount, formatDuration, formatTime } from "../format.js";
import { read } from "./connection.js";

const find = (selector) => document.querySelector(selector);
const rows = find("#recent-rows");
const form = find("#filter");

const OF_DATABASE = "This list comes from PostgreSQL, which does not answer right now.";

let filtered = !find("#all").hidden; // the page came with what was searched for
let latest; // the newest uploads of all, while something else is shown
let asked = 0;

/** What the server pushes; while a search is shown, it is kept for later. Null: the list cannot be read. */
export function showNewest(files) {
  latest = files;
  if (!filtered) show(files, false);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void search();
});
form.querySelector("select").addEventListener("change", () => void search());
find("#all").addEventListener("click", (event) => {
  if (latest === undefined) return; // nothing was pushed yet: the page itself is asked for
  event.preventDefault();
  form.querySelector("input").value = "";
  form.querySelector("select").value = "any";
  void search();
});

async function search() {
  const text = form.elements.q.value.trim();
  const status = form.elements.status.value;
  const mine = ++asked;
  filtered = text !== "" || status !== "any";
  const query = new URLSearchParams({ ...(text && { q: text }), status });
  history.replaceState(null, "", filtered ? `/dashboard?${query}` : "/dashboard");
  find("#all").hidden = !filtered;
  if (!filtered && latest !== undefined) return show(latest, false);
  const page = await read(`/api/files?limit=25&${query}`).catch((error) => ({ files: null, next_cursor: null, why: `This list cannot be read. ${error.said ?? "The server does not answer."}` }));
  if (mine !== asked) return; // somebody typed on
  show(page.files, filtered, page.next_cursor && `/dashboard?${new URLSearchParams([...query, ["cursor", page.next_cursor]])}#recent`, page.why);
}

/**
 * Without files (the list cannot be read) the rows shown before stay, and no row is not called "nothing stored".
 * Rows already on the page stay the same elements, so that a focused link keeps the focus.
 */
function show(files, isFound, olderUrl = null, why = OF_DATABASE) {
  const known = files !== null && files !== undefined;
  if (!known) find("#recent-unknown").textContent = why;
  find("#recent-unknown").hidden = known;
  find("#recent-empty").hidden = !known || isFound || files.length > 0;
  find("#recent-none").hidden = !known || !isFound || files.length > 0;
  find("#recent-none [data-more]").hidden = !olderUrl;
  find("#found").hidden = !isFound || !known;
  find("#paging").hidden = !olderUrl;
  if (olderUrl) find("#older").href = olderUrl;
  if (!known) return;
  if (isFound) find("#found").textContent = `${howMany(files.length, olderUrl !== null)} found as of ${formatTime(new Date())}; what comes later shows up with the next search.`;
  const before = new Map([...rows.children].map((row) => [row.dataset.id, row]));
  const wanted = files.map((file) => {
    const row = before.get(file.id) ?? newRow(file);
    showFile(row, file);
    return row;
  });
  const keep = new Set(wanted);
  for (const row of before.values()) if (!keep.has(row)) row.remove();
  wanted.forEach((row, index) => {
    if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index] ?? null);
  });
  find("#recent-table").hidden = files.length === 0;
}

function howMany(count, isMore) {
  if (!isMore) return formatCount(count);
  return count === 0 ? "So far none" : `${formatCount(count)} or more`;
}

function newRow(file) {
  const row = find("#recent-row").content.firstElementChild.cloneNode(true);
  row.dataset.id = file.id;
  row.classList.add("fresh");
  return row;
}

function showFile(row, file) {
  if (row.dataset.status === file.status && row.dataset.shown) return;
  row.dataset.status = file.status;
  row.dataset.shown = "true";
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const eventTime = new Date(file.event_time);
  const name = file.name ?? "a name that is not known any more";
  field("name").href = file.status === "stored" ? file.url : `/upload/${file.id}`;
  field("name").title = name;
  field("name").querySelector("bdi").textContent = name;
  field("type").textContent = file.content_type ?? "–";
  field("status").href = `/upload/${file.id}`;
  field("status").title = file.reason ?? "";
  for (const label of field("status").children) label.hidden = label.dataset.statusLabel !== file.status;
  field("size").textContent = formatBytes(file.size);
  field("from").textContent = file.uploader_id || "–";
  field("time").dateTime = eventTime.toISOString();
  field("time").textContent = formatTime(eventTime);
  field("took").textContent = file.stored_at ? formatDuration((new Date(file.stored_at) - eventTime) / 1000) : "–";
}
