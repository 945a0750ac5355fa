// What becomes of the files that were received: one loop asks for all of them, few at a time, and more slowly where nothing changes.
const FIRST_LOOK_MS = 250;
const SLOWER = 1.5;
const SLOWEST_MS = 15_000;
const MOST_AT_ONCE = 2; // a browser has six connections to a server; three of them send
const ANSWER_WITHIN_MS = 10_000;

/** @param changed  is given an item whose status is another, and that status: the API's answer, or "gone" for a 404 */
export function createFollowing({ changed }) {
  const waiting = new Map(); // item -> { at, everyMs }
  let asking = 0;
  let timer;

  document.addEventListener("visibilitychange", plan);

  function follow(item) {
    waiting.set(item, { at: performance.now() + FIRST_LOOK_MS, everyMs: FIRST_LOOK_MS });
    plan();
  }

  /** Nobody looks at a hidden page: it asks again when it is shown. */
  function plan() {
    clearTimeout(timer);
    if (document.hidden || waiting.size === 0 || asking >= MOST_AT_ONCE) return;
    const next = Math.min(...[...waiting.values()].map(({ at }) => at));
    timer = setTimeout(look, Math.max(0, next - performance.now()));
  }

  function look() {
    for (const [item, turn] of waiting) {
      if (asking >= MOST_AT_ONCE) return;
      if (turn.at <= performance.now()) void ask(item, turn);
    }
    plan();
  }

  async function ask(item, turn) {
    asking += 1;
    turn.at = Infinity; // in hand
    const status = await statusOf(item).catch(() => undefined);
    asking -= 1;
    const isNews = status && status.status !== item.status?.status;
    if (item.state === "removed" || status?.status === "stored" || status?.status === "gone") waiting.delete(item);
    // What failed may be retried from the dead letters.
    turn.everyMs = status?.status === "failed" ? SLOWEST_MS : isNews ? FIRST_LOOK_MS : Math.min(SLOWEST_MS, turn.everyMs * SLOWER);
    turn.at = performance.now() + turn.everyMs;
    if (isNews && item.state !== "removed") changed(item, status);
    plan();
  }

  return { follow };
}

async function statusOf({ fileId }) {
  const response = await fetch(`/api/files/${fileId}/status`, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  if (response.status === 404) return { status: "gone" };
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  return response.json();
}
