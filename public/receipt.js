// Follows an upload until it is stored or has failed. Without this file the page reloads itself.
const ANSWER_WITHIN_MS = 5000;
const SLOWEST_POLL_MS = 15_000; // while the server does not answer
const CHANGING = ["headline", "track", "notice", "facts-list"];

const byId = (id) => document.getElementById(id);
const periodMs = Number(byId("main").dataset.refreshSeconds) * 1000;
let failures = 0;
let timer;

document.addEventListener("visibilitychange", () => schedule(0));
schedule(periodMs);

function schedule(delayMs) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, delayMs);
}

async function look() {
  let final = false;
  try {
    const response = await fetch(location.href, {
      headers: { accept: "text/html" },
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    final = show(new DOMParser().parseFromString(await response.text(), "text/html"));
    failures = 0;
  } catch {
    failures += 1;
    const looking = byId("looking");
    if (looking) looking.textContent = "The server does not answer right now. The file is safe; this page keeps looking.";
  }
  if (!final) schedule(Math.min(periodMs * 2 ** failures, Math.max(periodMs, SLOWEST_POLL_MS)));
}

/** Takes over what changed, and only that: links keep the focus, the beat of the current step goes on. */
function show(next) {
  const headline = byId("headline").textContent;
  for (const id of CHANGING) {
    const fresh = next.getElementById(id);
    if (fresh && fresh.outerHTML !== byId(id).outerHTML) byId(id).replaceWith(document.adoptNode(fresh));
  }
  byId("another").className = next.getElementById("another").className;
  if (byId("headline").textContent !== headline) byId("spoken").textContent = byId("headline").textContent;
  return !("refreshSeconds" in next.getElementById("main").dataset);
}
