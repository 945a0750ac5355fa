// Keeps the analytics page current: the latest events every two seconds, the figures less often. Without this file it is as it was sent.
import { sendInPlace } from "./analytics/form.js";
import { morph } from "./analytics/morph.js";
import { showLatest } from "./analytics/tail.js";
import { Refused, read } from "./dashboard/connection.js";

const TAIL_MS = 2_000;
const SOON_MS = 700; // a worker has recorded an event within this, as a rule
const SLOWEST_MS = 30_000; // while the server does not answer
const ANSWER_WITHIN_MS = 10_000;
const SPEAK_EVERY_MS = 30_000;
const COPIED_MS = 2_000;

const find = (selector) => document.querySelector(selector);
const main = find("#main");
const live = find("#live");
const pause = find("#pause");
const freshness = find("#freshness");
const freshnessText = find("#freshness-text");
const { site, here } = main.dataset;
const refreshMs = Number(main.dataset.refreshSeconds) * 1000;

let paused = false;
let spokenAt = performance.now();

const tail = repeat(TAIL_MS, async () => {
  const { events } = await read(`/stats/latest?${new URLSearchParams({ site_id: site, limit: main.dataset.latest })}`, ANSWER_WITHIN_MS);
  showLatest(events);
});
const figures = repeat(refreshMs, async () => {
  const response = await fetch(here, { headers: { accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  if (!response.ok) throw Object.assign(new Refused(`the server answers ${response.status}`));
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (site === "" && fresh.querySelector("#main").dataset.site !== "" && isUntouched(find("#test-form"))) return location.reload(); // the only site there is needs no choice
  const before = troubles();
  morph(live, fresh.querySelector("#live"));
  showFreshness();
  speak(before);
});

const loops = site === "" ? [figures] : [tail, figures];

if (site !== "") {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    follow();
  });
  tail.after(TAIL_MS);
  showFreshness();
}
// Nobody looks at a hidden tab: it asks for nothing, and catches up when it is shown.
document.addEventListener("visibilitychange", follow);
figures.after(refreshMs); // without a site as well: one may come, or the database
sendInPlace(() => {
  if (paused) return;
  for (const loop of loops) loop.after(SOON_MS);
});
nameZones();
offerCopies();

function follow() {
  for (const loop of loops) {
    if (paused || document.hidden) loop.stop();
    else loop.after(0);
  }
  showFreshness();
}

/** Does the work again and again, later and later while it fails. */
function repeat(everyMs, work) {
  let timer;
  let running; // what was asked last
  let failures = 0;
  const loop = {
    trouble: undefined,
    after(delayMs) {
      clearTimeout(timer);
      running = undefined; // a run under way does not put it off again
      timer = setTimeout(run, delayMs);
    },
    stop() {
      clearTimeout(timer);
      running = undefined;
    },
  };
  async function run() {
    const mine = (running = Symbol("run"));
    try {
      await work();
      failures = 0;
      loop.trouble = undefined;
    } catch (error) {
      failures += 1;
      loop.trouble = error instanceof Refused ? error.message : "the server does not answer";
    }
    if (running !== mine) return;
    showFreshness();
    loop.after(Math.min(everyMs * 2 ** failures, Math.max(everyMs, SLOWEST_MS)));
  }
  return loop;
}

function showFreshness() {
  const shown = [...live.querySelectorAll("[data-figure]")];
  freshness.hidden = shown.length === 0;
  if (freshness.hidden) return;
  const unknown = shown.every((figure) => figure.textContent === "–");
  const trouble = unknown ? "No figures right now" : figures.trouble ? `Old figures: ${figures.trouble}` : tail.trouble && `Old list: ${tail.trouble}`;
  freshness.dataset.state = paused ? "paused" : trouble ? "old" : "live";
  put(freshnessText, paused ? "Paused" : (trouble ?? "Live"));
  main.toggleAttribute("data-old", figures.trouble !== undefined && !paused);
}

/** What is wrong is said at once, figures now and then: so many of them every few seconds would drown all else. */
function speak(before) {
  if (site === "") return;
  const now = troubles();
  if (now !== "" && withoutFigures(now) !== withoutFigures(before)) return put(find("#spoken"), now);
  if (performance.now() - spokenAt < SPEAK_EVERY_MS) return;
  spokenAt = performance.now();
  put(find("#spoken"), `Page views: ${find('[data-figure="views"]').textContent}. Unique users: ${find('[data-figure="users"]').textContent}.`);
}

function troubles() {
  return [...live.querySelectorAll(".state p")].map((line) => line.textContent).join(" ");
}

function isUntouched(form) {
  return [...form.elements].every((field) => !(field instanceof HTMLInputElement) || field.value === field.defaultValue);
}

function withoutFigures(sentences) {
  return sentences.replace(/[\d.,:]+( \w+)?\s*/g, "");
}

/** Browsers know the zones there are, and which one this is. */
function nameZones() {
  const list = find("#zones");
  const own = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  const names = new Set(["UTC", own, ...(Intl.supportedValuesOf?.("timeZone") ?? [])]);
  list?.replaceChildren(...[...names].filter(Boolean).map((name) => Object.assign(document.createElement("option"), { value: name })));
}

/** Only where the browser lets pages copy, which is over HTTPS and on this machine. */
function offerCopies() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await navigator.clipboard.writeText(find(`#${button.dataset.copy}`).textContent).then(() => true, () => false);
      put(find("#copied"), done ? "Copied." : "Could not be copied.");
      button.dataset.done = done;
      setTimeout(() => {
        delete button.dataset.done;
        put(find("#copied"), "");
      }, COPIED_MS);
    });
  }
}

/** Writes only what differs: a live region speaks whenever its text is touched. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
