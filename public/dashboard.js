// Keeps the dashboard current by polling. Without this file the page reloads itself every five seconds.
import { formatBytes, formatCount, formatDuration, formatTime } from "./format.js";

const POLL_MS = 2000;
const SLOWEST_POLL_MS = 15_000; // while the server does not answer, so that many open tabs do not press it
const ANSWER_WITHIN_MS = 5000;
const OLD_AFTER_MS = 10_000;
const SPEAK_EVERY_MS = 30_000;
const AUDIT_EVERY_MS = 10_000;
const AUDIT_WITHIN_MS = 12_000; // a little longer than the server tries

const find = (selector) => document.querySelector(selector);
const main = find("#main");
const freshness = find("#freshness");
const freshnessText = find("#freshness-text");
const pause = find("#pause");
const state = find("#state");
const rows = find("#recent-rows");

let shownTimestamp = main.dataset.timestamp; // the server's, of the figures on the page
let freshAt = performance.now(); // when they arrived, by a clock that nobody sets
let trouble = ""; // why the last poll brought nothing
let failures = 0;
let paused = false;
let polling = false;
let timer;
let spokenAt = -Infinity;
let auditing = false;
let auditedAt = performance.now(); // the page came with one
let short = find("#audit").dataset.level === "bad"; // acknowledged uploads are missing, or there are too many
let unsure = !state.querySelector("[data-unsure]").hidden; // the audit cannot read a tally

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Resume" : "Pause";
  schedule(0);
  showFreshness();
});
// Nobody looks at a hidden tab: it asks for nothing, and catches up when it is shown.
document.addEventListener("visibilitychange", () => schedule(0));
setInterval(showFreshness, 1000);
schedule(POLL_MS);
showFreshness();

function schedule(delayMs) {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(poll, delayMs);
}

async function poll() {
  if (polling) return;
  polling = true;
  void pollAudit();
  try {
    const [counts, recent] = await Promise.all([
      read("/api/counts"),
      read("/api/files?limit=10").catch((error) => error), // without the database there are still figures
    ]);
    showCounts(counts);
    showRecent(recent.files);
    // An answer some cache kept is no news, however lately it came.
    if (counts.timestamp !== shownTimestamp) freshAt = performance.now();
    shownTimestamp = counts.timestamp;
    trouble = "";
    failures = 0;
  } catch (error) {
    trouble = error instanceof Refused ? error.message : "the server does not answer";
    failures += 1;
  } finally {
    polling = false;
  }
  showFreshness();
  schedule(Math.min(POLL_MS * 2 ** failures, failures === 0 ? POLL_MS : SLOWEST_POLL_MS));
}

class Refused extends Error {}

/** Apart from the figures: it may take longer than they do. */
async function pollAudit() {
  if (auditing || performance.now() - auditedAt < AUDIT_EVERY_MS) return;
  auditing = true;
  showAudit(await read("/api/audit", AUDIT_WITHIN_MS).catch(() => null));
  auditedAt = performance.now();
  auditing = false;
}

async function read(url, withinMs = ANSWER_WITHIN_MS) {
  const response = await fetch(url, {
    headers: { accept: "application/json" },
    cache: "no-store",
    signal: AbortSignal.timeout(withinMs),
  });
  if (!response.ok) throw new Refused(`the server answers ${response.status}`);
  return response.json();
}

function showCounts(counts) {
  put(find('[data-figure="redis"]'), formatCount(counts.redis));
  put(find('[data-figure="timescale"]'), formatCount(counts.timescale));
  put(find('[data-figure="rate"]'), formatCount(counts.rate));
  put(find('[data-figure="uptime"]'), formatDuration(counts.uptime_seconds));
  const startedAt = new Date(new Date(counts.timestamp) - counts.uptime_seconds * 1000);
  putTime(find('[data-figure="started"]'), startedAt);
  for (const line of document.querySelectorAll("[data-ledger]")) line.hidden = line.dataset.ledger !== counts.ledger;
  showState(counts.degraded, counts.dead_letters ?? 0, counts.damaged ?? 0);
  speak(counts);
}

function showState(degraded, deadLetters, damaged) {
  const unnamed = new Set(degraded);
  let level = damaged > 0 ? "bad" : degraded.length > 0 || deadLetters > 0 || unsure ? "warn" : "good";
  for (const line of state.querySelectorAll("[data-dependency]")) {
    const reachable = !unnamed.delete(line.dataset.dependency);
    line.hidden = reachable;
    if (!reachable && line.dataset.level === "bad") level = "bad";
  }
  put(state.querySelector('[data-field="unnamed"]'), [...unnamed].join(", "));
  put(state.querySelector('[data-field="dead-letters"]'), formatCount(deadLetters));
  if (short) level = "bad";
  state.querySelector("[data-short]").hidden = !short;
  state.querySelector("[data-unsure]").hidden = !unsure;
  put(state.querySelector('[data-field="damaged"]'), formatCount(damaged));
  state.querySelector("[data-unnamed]").hidden = unnamed.size === 0;
  state.querySelector("[data-dead-letters]").hidden = deadLetters === 0;
  state.querySelector("[data-damaged]").hidden = damaged === 0;
  state.querySelector("[data-well]").hidden = level !== "good";
  state.dataset.level = level;
}

function showAudit(audit) {
  const balanced = audit?.balanced ?? null;
  const known = audit?.difference != null;
  short = known ? balanced === false : short; // not knowing makes nothing good
  unsure = audit ? audit.unreadable_tallies > 0 : unsure;
  const box = find("#audit");
  box.dataset.level = balanced === null ? "unknown" : balanced ? "good" : "bad";
  const said = known && balanced === null ? "unreadable" : balanced !== false ? box.dataset.level : audit.difference.files + audit.difference.bytes > 0 ? "missing" : "surplus";
  for (const sentence of box.querySelectorAll("[data-audit]")) sentence.hidden = sentence.dataset.audit !== said;
  for (const term of box.querySelectorAll("[data-term]")) {
    const { files, bytes } = audit?.[term.dataset.term] ?? { files: null, bytes: null };
    put(term.querySelector('[data-amount="files"]'), formatCount(files));
    put(term.querySelector('[data-amount="bytes"]'), formatBytes(bytes));
    term.hidden = !("always" in term.dataset) && !(files + bytes > 0);
  }
}

/**
 * Without files (the list cannot be read) the rows shown before stay, and no row is not called "nothing stored".
 * Rows already on the page stay the same elements, so that a focused link keeps the focus.
 */
function showRecent(files) {
  find("#recent-unknown").hidden = files !== undefined;
  find("#recent-empty").hidden = files === undefined || files.length > 0;
  if (files === undefined) return;
  const known = new Map([...rows.children].map((row) => [row.dataset.id, row]));
  const wanted = files.map((file) => known.get(file.id) ?? newRow(file));
  const keep = new Set(wanted);
  for (const row of known.values()) if (!keep.has(row)) row.remove();
  wanted.forEach((row, index) => {
    if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index] ?? null);
  });
  find("#recent-table").hidden = files.length === 0;
}

function newRow(file) {
  const row = find("#recent-row").content.firstElementChild.cloneNode(true);
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const eventTime = new Date(file.event_time);
  row.dataset.id = file.id;
  row.classList.add("fresh");
  field("name").href = file.url;
  field("name").title = file.name;
  field("name").querySelector("bdi").textContent = file.name;
  field("type").textContent = file.content_type;
  field("size").textContent = formatBytes(file.size);
  field("from").textContent = file.uploader_id || "–";
  putTime(field("time"), eventTime);
  field("took").textContent = formatDuration((new Date(file.stored_at) - eventTime) / 1000);
  return row;
}

function showFreshness() {
  const ageMs = performance.now() - freshAt;
  const old = ageMs > OLD_AFTER_MS;
  const asOf = `from ${formatTime(new Date(shownTimestamp))}`;
  freshness.dataset.state = paused ? "paused" : old ? "old" : "live";
  main.toggleAttribute("data-old", old);
  if (paused) put(freshnessText, `Paused: figures ${asOf}`);
  // The sentence names a moment, not an age in seconds: a live region that counts would never be silent.
  else if (old) put(freshnessText, `Old figures, ${asOf}: ${trouble || "nothing newer has come"}`);
  else put(freshnessText, "Live, every 2 seconds");
}

function speak(counts) {
  if (performance.now() - spokenAt < SPEAK_EVERY_MS) return;
  spokenAt = performance.now();
  put(
    find("#spoken"),
    `${formatCount(counts.redis)} in the queue, ${formatCount(counts.timescale)} in the ledger, ${formatCount(counts.rate)} a second.`,
  );
}

/** Writes only what differs: a live region speaks whenever its text is touched. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function putTime(element, instant) {
  element.dateTime = instant.toISOString();
  put(element, formatTime(instant));
}
