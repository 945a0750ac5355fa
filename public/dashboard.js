// Keeps the dashboard current: figures are pushed by the server. Without this file the page reloads itself every five seconds.
import { add, load } from "./dashboard/charts.js";
import { createConnection } from "./dashboard/connection.js";
import { showNewest } from "./dashboard/recent.js";
import { formatBytes, formatCount, formatDuration, formatTime } from "./format.js";

const OLD_AFTER_MS = 10_000;
const SPEAK_EVERY_MS = 30_000;

const find = (selector) => document.querySelector(selector);
const main = find("#main");
const freshness = find("#freshness");
const freshnessText = find("#freshness-text");
const pause = find("#pause");
const state = find("#state");

let shownTimestamp = main.dataset.timestamp; // the server's, of the figures on the page
let freshAt = performance.now(); // when they arrived, by a clock that nobody sets
let how = "waiting"; // how figures come: "live", "asking", or why none do
let paused = false;
let spokenAt = -Infinity;
let short = find("#audit").dataset.level === "bad"; // acknowledged uploads are missing, or there are too many
let unsure = !state.querySelector("[data-unsure]").hidden; // the audit cannot read a tally

const connection = createConnection({
  onFigures(figures) {
    showAudit(figures.audit);
    showFigures(figures);
    showWorkers(figures.workers);
    add(figures.lately);
    // An answer some cache kept is no news, however lately it came.
    if (figures.timestamp !== shownTimestamp) freshAt = performance.now();
    shownTimestamp = figures.timestamp;
  },
  onRecent: (files) => showNewest(files),
  onState(now) {
    how = now;
    showFreshness();
  },
});

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Resume" : "Pause";
  connect();
  showFreshness();
});
// Nobody looks at a hidden tab: it listens to nothing, and catches up when it is shown.
document.addEventListener("visibilitychange", connect);
setInterval(showFreshness, 1000);
void load();
connect();
showFreshness();

function connect() {
  if (paused || document.hidden) return connection.stop();
  how = "waiting";
  connection.start();
}

function showFigures(figures) {
  const show = (name, text) => put(find(`[data-figure="${name}"]`), text);
  const ofWorkers = (wanted) => formatCount(figures.workers && figures.workers.filter((worker) => worker.state === wanted).length);
  const ms = (value) => formatDuration(value === null ? null : value / 1000);
  show("redis", formatCount(figures.redis));
  show("oldest", figures.redis === 0 ? "none waits" : formatDuration(figures.queue.oldest_seconds));
  show("accepted", formatCount(figures.accepted_per_second));
  show("bytes", formatBytes(figures.bytes_per_second));
  show("settled", formatCount(figures.settled_per_second));
  show("p95", ms(figures.latency_ms.p95));
  show("p50", ms(figures.latency_ms.p50));
  show("p99", ms(figures.latency_ms.p99));
  show("timescale", formatCount(figures.timescale));
  show("stored", formatBytes(figures.storage.used_bytes));
  const disks = [figures.storage, figures.inbox].filter(({ kind }) => kind === "disk").map(({ free_bytes }) => free_bytes);
  show("free", formatBytes(disks.length === 0 || disks.includes(null) ? null : Math.min(...disks))); // the one that is full first counts
  show("dead-letters", formatCount(figures.failures.dead_letters));
  show("retrying", formatCount(figures.failures.retrying));
  show("failures", formatCount(figures.failures.recent));
  show("workers", formatCount(figures.workers && figures.workers.length));
  for (const [name, wanted] of [["working", "working"], ["idle", "idle"], ["paused", "paused"]]) show(name, ofWorkers(wanted));
  show("uptime", formatDuration(figures.uptime_seconds));
  putTime(find('[data-figure="started"]'), new Date(new Date(figures.timestamp) - figures.uptime_seconds * 1000));
  for (const line of document.querySelectorAll("[data-ledger]")) line.hidden = line.dataset.ledger !== figures.ledger;
  showState(figures);
  speak(figures);
}

function showState({ degraded, dead_letters, damaged, unattended, space_warning, all_paused_by }) {
  const unnamed = new Set(degraded);
  const deadLetters = dead_letters ?? 0;
  const held = all_paused_by.length > 0;
  let level = damaged > 0 || space_warning !== null ? "bad" : degraded.length > 0 || deadLetters > 0 || unsure || unattended || held ? "warn" : "good";
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
  state.querySelector("[data-unattended]").hidden = !unattended;
  put(state.querySelector('[data-field="space"]'), space_warning ?? "");
  state.querySelector("[data-space]").hidden = space_warning === null;
  put(state.querySelector('[data-field="all-paused"]'), all_paused_by.join(", "));
  state.querySelector("[data-all-paused]").hidden = !held;
  put(state.querySelector('[data-field="damaged"]'), formatCount(damaged ?? 0));
  state.querySelector("[data-unnamed]").hidden = unnamed.size === 0;
  state.querySelector("[data-dead-letters]").hidden = deadLetters === 0;
  state.querySelector("[data-damaged]").hidden = !(damaged > 0);
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

/** Null: nobody knows who is alive. */
function showWorkers(workers) {
  find("#workers-unknown").hidden = workers !== null;
  find("#workers-none").hidden = workers === null || workers.length > 0;
  find("#workers-table").hidden = !(workers?.length > 0);
  const rows = find("#worker-rows");
  const before = new Map([...rows.children].map((row) => [row.dataset.worker, row]));
  for (const worker of workers ?? []) {
    const row = before.get(worker.name) ?? rows.appendChild(find("#worker-row").content.firstElementChild.cloneNode(true));
    before.delete(worker.name);
    const show = (name, text) => put(row.querySelector(`[data-field="${name}"]`), text);
    row.dataset.worker = worker.name;
    row.dataset.state = worker.state;
    for (const doing of row.querySelectorAll("[data-doing]")) doing.hidden = doing.dataset.doing !== worker.state;
    show("name", worker.name);
    show("entries", formatCount(worker.entries));
    show("because", worker.because ?? "");
    show("settled", formatCount(worker.settled));
    show("active", formatTime(worker.active_at && new Date(worker.active_at)));
    show("up", formatDuration(worker.up_seconds));
  }
  for (const row of before.values()) row.remove();
}

function showFreshness() {
  const old = performance.now() - freshAt > OLD_AFTER_MS;
  const asOf = `from ${formatTime(new Date(shownTimestamp))}`;
  freshness.dataset.state = paused ? "paused" : old ? "old" : "live";
  freshness.dataset.how = paused ? "paused" : how;
  main.toggleAttribute("data-old", old);
  const silent = how === "live" || how === "asking" || how === "waiting";
  // The sentence names a moment, not an age in seconds: a live region that counts would never be silent.
  if (paused) put(freshnessText, `Paused: figures ${asOf}`);
  else if (old) put(freshnessText, `Old figures, ${asOf}: ${silent ? "nothing newer has come" : how}`);
  else if (how === "asking") put(freshnessText, "Current: asked for every 2 seconds, as nothing is pushed");
  else put(freshnessText, "Live");
}

function speak(figures) {
  if (performance.now() - spokenAt < SPEAK_EVERY_MS) return;
  spokenAt = performance.now();
  put(
    find("#spoken"),
    `${formatCount(figures.redis)} in the queue, ${formatCount(figures.timescale)} in the ledger, ${formatCount(figures.settled_per_second)} settled a second.`,
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
