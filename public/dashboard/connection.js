// Brings the figures: pushed by the server as long as there is a stream, else by asking for them.
const POLL_MS = 2000;
const SLOWEST_POLL_MS = 15_000; // while the server does not answer, so that many open tabs do not press it
const ANSWER_WITHIN_MS = 5000;
const SILENT_AFTER_MS = 8000; // figures come every two seconds; some proxies take a stream and pass nothing on
const POLL_AFTER_MS = 1500; // a stream that breaks off is back in a moment, as a rule
const REOPEN_MS = 3000; // doubled each time
const SLOWEST_REOPEN_MS = 30_000;

/** The server answered, and not with what was asked for. `said`: its own sentence for people, where it has one. */
export class Refused extends Error {
  said;
}

export async function read(url, withinMs = ANSWER_WITHIN_MS) {
  const response = await fetch(url, { headers: { accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(withinMs) });
  if (!response.ok) {
    const answer = await response.json().catch(() => undefined);
    throw Object.assign(new Refused(`the server answers ${response.status}`), { said: answer?.error });
  }
  return response.json();
}

/** `onFigures` and `onRecent` get what came; `onState` is told "live", "asking", or why nothing comes. */
export function createConnection({ onFigures, onRecent, onState }) {
  let source;
  let streaming = false;
  let heardAt = 0;
  let running = false;
  let polling = false;
  let failures = 0;
  let pollTimer;
  let reopens = 0;
  let reopenTimer;
  let watchTimer;

  function start() {
    if (running) return;
    running = true;
    failures = 0;
    open();
    watchTimer = setInterval(watch, 1000);
  }

  function stop() {
    running = false;
    clearInterval(watchTimer);
    close();
    stopPolling();
    clearTimeout(reopenTimer);
  }

  function open() {
    clearTimeout(reopenTimer);
    heardAt = performance.now();
    source = new EventSource("/api/live");
    source.addEventListener("figures", ({ data }) => {
      streaming = true;
      reopens = 0;
      heardAt = performance.now();
      stopPolling();
      onFigures(JSON.parse(data));
      onState("live");
    });
    source.addEventListener("recent", ({ data }) => onRecent(JSON.parse(data).files));
    source.addEventListener("error", () => {
      streaming = false;
      // Refused for good (busy, or something else answers): the browser does not come back by itself.
      if (source?.readyState === EventSource.CLOSED) reopenLater();
      pollSoon(POLL_AFTER_MS);
    });
  }

  function close() {
    source?.close();
    source = undefined;
    streaming = false;
  }

  function reopenLater() {
    close();
    clearTimeout(reopenTimer);
    reopenTimer = setTimeout(open, Math.min(REOPEN_MS * 2 ** reopens, SLOWEST_REOPEN_MS) * (0.75 + Math.random() / 2));
    reopens += 1;
  }

  /** A stream may be open and bring nothing. */
  function watch() {
    if (!source || performance.now() - heardAt < SILENT_AFTER_MS) return;
    reopenLater();
    pollSoon(0);
  }

  function pollSoon(delayMs) {
    if (running && !polling && pollTimer === undefined) pollTimer = setTimeout(poll, delayMs);
  }

  function stopPolling() {
    clearTimeout(pollTimer);
    pollTimer = undefined;
    failures = 0;
  }

  async function poll() {
    pollTimer = undefined;
    polling = true;
    try {
      const [figures, recent] = await Promise.all([
        read("/api/live"),
        read("/api/files?status=any&limit=10").catch(() => ({ files: null })), // without the database there are still figures
      ]);
      failures = 0;
      if (running && !streaming) {
        onFigures(figures);
        onRecent(recent.files);
        onState("asking");
      }
    } catch (error) {
      failures += 1;
      if (running && !streaming) onState(error instanceof Refused ? error.message : "the server does not answer");
    } finally {
      polling = false;
    }
    if (running && !streaming) pollSoon(Math.min(POLL_MS * 2 ** failures, failures === 0 ? POLL_MS : SLOWEST_POLL_MS));
  }

  return { start, stop };
}
