// One file's bytes on their way, by tus 1.0. It goes on by itself for as long as the page is open: the network may be away
// for hours and the server restart; what the server has acknowledged is never sent again.
import { endOnServer, isReceived } from "./ending.js";
import { troubleOf } from "./trouble.js";

/* global tus: /assets/vendor/tus.min.js */

// Proxies often take bodies of 100 MB at most (Cloudflare's limit), so a large file goes in several requests. Smaller ones
// would gain nothing: the server keeps what has arrived of a request that broke off.
const CHUNK_BYTES = 64 * 1024 * 1024;
const SMALL_BYTES = 1024 * 1024; // goes with the creation, in one request; more could be lost as a whole
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const LONGEST_RETRY_AFTER_MS = 120_000; // more is not believed
const SPREAD_MS = 1_000; // many pages come back to the server at the same moment
const STALLED_MS = 120_000; // without a sign of life: a connection nobody has closed may hang much longer
const LOOK_FOR_STALLS_MS = 5_000;
const CANCEL_WAITS_MS = 15_000; // for the answer to a small file's one request

/**
 * @param changed   is given an item whenever something of it changed
 * @param moved     is given how many bytes were sent now
 * @param began     is called when bytes move after all
 * @param received  is given an item whose bytes are all safe
 */
export function createSending({ endpoint, memory, changed, moved, began, received }) {
  const underWay = new Set();

  addEventListener("offline", () => {
    for (const item of underWay) if (item.state === "sending") interrupt(item, { kind: "network", sentence: "There is no network." });
  });
  addEventListener("online", () => {
    for (const item of underWay) if (item.state === "offline") wait(item, Math.random() * SPREAD_MS);
  });
  setInterval(() => {
    for (const item of underWay) {
      if (item.attempt && performance.now() - item.aliveAt > STALLED_MS) interrupt(item, { kind: "network", sentence: "The server does not answer." });
    }
  }, LOOK_FOR_STALLS_MS);

  /** Begins, or goes on where the server says. */
  function start(item) {
    clearTimeout(item.timer);
    underWay.add(item);
    item.aliveAt = performance.now();
    if (item.state !== "offline") item.state = "sending"; // else it stays so until bytes are seen to move
    item.speed.forget();
    let known = false;
    const mine = (act) => (...given) => {
      if (item.attempt !== attempt) return; // it was stopped, and somebody else's turn has begun
      item.aliveAt = performance.now();
      act(...given);
    };
    item.idempotencyKey ??= randomKey();
    if (!item.url && isSmall(item)) {
      item.isAsked = true;
      memory.remember(item); // before the request: after a reload the same key leads to what it made
    }
    // An attempt of an upload that exists gets no endpoint: tus-js-client would begin a new one on any answer but 200, also a 503.
    const attempt = new tus.Upload(item.file, {
      endpoint: item.url ? null : endpoint,
      uploadUrl: item.url,
      chunkSize: CHUNK_BYTES,
      uploadDataDuringCreation: isSmall(item),
      // Were the answer to the creation lost, the next one finds the same upload, and the file is not there twice.
      onBeforeRequest: (request) => void (request.getMethod() === "POST" && request.setHeader("Idempotency-Key", item.idempotencyKey)),
      retryDelays: null, // the waiting is done here
      storeFingerprintForResuming: false, // and the remembering in memory.js
      metadata: item.url ? {} : metadataOf(item),
      onUploadUrlAvailable: mine(() => {
        if (item.url) return;
        memory.forget(item); // it had only its key
        item.url = attempt.url;
        item.fileId = fileIdOf(item.url);
        memory.remember(item);
        changed(item);
      }),
      onProgress: mine((sentBytes) => {
        if (!known && (item.url || sentBytes > 0)) {
          known = true;
          if (item.url) item.sentBytes = sentBytes; // the first is where the server says we are
          acknowledge(item, item.url ? sentBytes : 0);
          if (item.state !== "cancelling") Object.assign(item, { state: "sending", trouble: "" });
          began();
        }
        advance(item, sentBytes);
        item.speed.add(sentBytes);
        changed(item);
      }),
      onChunkComplete: mine((_chunkBytes, acknowledgedBytes) => acknowledge(item, acknowledgedBytes)),
      onSuccess: mine(() => {
        underWay.delete(item);
        item.attempt = null;
        advance(item, item.sizeBytes);
        memory.forget(item);
        if (item.state === "cancelling") item.answered("received");
        else received(item);
      }),
      onError: mine((error) => void troubleOf(error, item).then(mine((trouble) => interrupt(item, trouble)))),
    });
    item.attempt = attempt;
    attempt.start();
    changed(item);
  }

  /** Ends the attempt; what the server has stays there. */
  function stop(item) {
    clearTimeout(item.timer);
    underWay.delete(item);
    void item.attempt?.abort();
    item.attempt = null;
    item.speed.forget();
    item.sentBytes = item.acknowledgedBytes;
  }

  /** Nothing of it can have reached the server, or nothing that the server does not give up by itself. */
  function isOnlyHere(item) {
    return item.url === null && !item.isAsked;
  }

  /**
   * Ends it for good, on the server too. A small file's one request is not broken off: its answer says what became of it.
   * @returns "ended"; "received": too late; "unknown": the server does not say
   */
  async function terminate(item) {
    if (isOnlyHere(item)) {
      stop(item);
      return "ended";
    }
    let outcome;
    if (item.attempt && !item.url) {
      let timer;
      outcome = await new Promise((resolve) => {
        item.answered = resolve;
        timer = setTimeout(resolve, CANCEL_WAITS_MS);
      });
      clearTimeout(timer);
    }
    stop(item);
    outcome ??= await endOnServer(item, endpoint, metadataOf(item));
    if (outcome !== "unknown") memory.forget(item);
    return outcome;
  }

  /** Where the server says it is: bytes; null: it has nothing of it; undefined: it cannot be asked now. */
  async function offsetOf(item) {
    try {
      const response = await fetch(item.url, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" }, cache: "no-store" });
      if (response.status === 404 || response.status === 410) {
        // It may have been received, and the upload's own record given up since.
        return { true: item.sizeBytes, false: null }[await isReceived(item.fileId)];
      }
      const offset = Number(response.headers.get("Upload-Offset") ?? Number.NaN);
      return response.ok && Number.isFinite(offset) ? offset : undefined;
    } catch {
      return undefined;
    }
  }

  function interrupt(item, { kind, sentence, retryAfterMs = 0 }) {
    if (item.state === "cancelling") return item.answered?.(kind === "refused" ? "ended" : undefined);
    stop(item);
    item.trouble = sentence;
    if (kind === "refused" || kind === "broken") {
      if (kind === "refused" && item.url) void terminate(item);
      else if (kind === "refused") memory.forget(item);
      item.state = kind;
      return changed(item);
    }
    item.state = "offline";
    item.cause = kind;
    underWay.add(item);
    item.failures += 1;
    const backoffMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (item.failures - 1)) * (0.5 + Math.random() / 2);
    wait(item, Math.max(backoffMs, Math.min(retryAfterMs, LONGEST_RETRY_AFTER_MS)));
    changed(item);
    if (kind === "gone") void beginAnew(item);
  }

  /** The server knows the upload no more. It is sent again only where it is certain that it was not received. */
  async function beginAnew(item) {
    const { timer } = item;
    const offset = await offsetOf(item);
    if (item.state !== "offline" || item.timer !== timer || item.attempt || offset === undefined) return; // or the next attempt asks again
    stop(item);
    if (offset === null || offset === item.sizeBytes) memory.forget(item);
    if (offset === item.sizeBytes) return received(item);
    if (offset === null) Object.assign(item, { url: null, fileId: null, isAsked: false, idempotencyKey: undefined, sentBytes: 0, acknowledgedBytes: 0 });
    start(item);
  }

  /** So many of its bytes are on their way or there. */
  function advance(item, sentBytes) {
    if (sentBytes > item.sentBytes) moved(sentBytes - item.sentBytes);
    item.sentBytes = sentBytes;
  }

  function wait(item, ms) {
    clearTimeout(item.timer);
    item.timer = setTimeout(() => start(item), ms);
  }

  return { start, stop, terminate, isOnlyHere, offsetOf, forget: memory.forget };
}

function acknowledge(item, bytes) {
  if (bytes > item.acknowledgedBytes) item.failures = 0;
  item.acknowledgedBytes = bytes;
}

function isSmall({ sizeBytes }) {
  return sizeBytes <= SMALL_BYTES;
}

function metadataOf({ name, type, sender }) {
  return { filename: name, ...(type && { filetype: type }), ...(sender && { uploader_id: sender }) };
}

/** Not crypto.randomUUID, which browsers keep to HTTPS. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fileIdOf(url) {
  return new URL(url).pathname.split("/").at(-1);
}
