// All files of the page, and whose turn it is. It knows nothing of the page's looks.
import { senderFault } from "./rules.js";
import { createSpeed } from "./speed.js";

const MOST_SENDING = 3; // a browser has six connections to a server; two of them ask how the received files are
const MOST_HELD = 6; // sending, or kept from it by the server: three files with a trouble of their own do not stop all others
const LOOK_AGAIN_MS = [0, 500, 3_000]; // at an upload that stands; a lost connection is noticed at its server within seconds

/**
 * @param openSending  is given what to call, and returns start, stop, terminate and offsetOf
 * @param refusalOf    a file -> why it cannot be handed in
 * @param senderNow    what stands in the field "From"
 * @param follow       is given an item that was received
 * @param changed      is given an item whenever something of it changed
 */
export function createQueue({ openSending, refusalOf, senderNow, follow, changed }) {
  const items = new Set();
  const alike = new Map(); // name, size and time -> items
  let lastKey = 0;
  let gathering = false; // many at once: whose turn it is then is asked once, after them
  const speed = createSpeed(); // of all files together
  let movedBytes = 0;
  const sending = openSending({
    moved: (bytes) => speed.add(movedBytes += bytes),
    changed(item) {
      changed(item);
      if (item.state !== "sending") pump();
    },
    began: pump,
    received: (item) => finish(item),
  });

  /** @returns those that are already here, and therefore were not added */
  function add(found, { again = false } = {}) {
    const twice = [];
    for (const { file, path } of found) {
      const same = [...(alike.get(likenessOf(file)) ?? [])].filter((item) => item.path === path || !item.path || !path);
      const unfinished = same.find((item) => item.state === "broken" || (item.state === "paused" && !item.file));
      if (unfinished) Object.assign(unfinished, { file, state: "paused", trouble: "", isUnsure: false });
      if (unfinished) resume(unfinished);
      else if (!again && same.some(({ state }) => state !== "refused" && state !== "failed")) twice.push({ file, path });
      else insert(file, path);
    }
    pump();
    return twice;
  }

  function insert(file, path) {
    const item = create({ file, name: file.name, path, sizeBytes: file.size, lastModified: file.lastModified, type: file.type });
    const refusal = refusalOf(file);
    if (refusal) Object.assign(item, { state: "refused", trouble: refusal.sentence, mayTry: refusal.mayTry ?? false });
    changed(item);
  }

  function create(given) {
    const item = {
      key: (lastKey += 1), file: null, path: "", url: null, fileId: null, isAsked: false, isUnsure: false, isCancelled: false, sender: null, state: "waiting", trouble: "", cause: null, mayTry: false,
      sentBytes: 0, acknowledgedBytes: 0, failures: 0, aliveAt: 0, speed: createSpeed(), attempt: null, timer: undefined, status: null, ...given,
    };
    items.add(item);
    const likeness = likenessOf(item);
    alike.set(likeness, (alike.get(likeness) ?? new Set()).add(item));
    return item;
  }

  /** What could not be read has a row too: nobody should think that it was sent. */
  function addUnreadable(path) {
    const item = create({ name: path.split("/").at(-1), path, sizeBytes: null, state: "refused", trouble: "The browser could not read it." });
    changed(item);
  }

  /** From an earlier visit: its bytes are on this device, and only a person can choose the file again. */
  function addUnfinished(record) {
    const item = create({ ...record, state: "paused", fileId: record.url?.split("/").at(-1) ?? null, isAsked: !record.url });
    changed(item);
    if (!item.url) return; // the key leads to what there is, but only a request with it would tell
    for (const afterMs of LOOK_AGAIN_MS) setTimeout(lookAt, afterMs, item);
  }

  /** Received before the page was left. */
  function addReceived(record) {
    const item = create({ ...record, sentBytes: record.sizeBytes, acknowledgedBytes: record.sizeBytes, toldState: record.state });
    changed(item);
    if (item.state !== "stored" && item.status?.status !== "gone") follow(item);
  }

  /** The server keeps more than it has acknowledged once it has noticed that nothing more comes: then the figure is honest. */
  async function lookAt(item) {
    if (item.state !== "paused") return;
    const offset = await sending.offsetOf(item);
    if (item.state !== "paused" || offset === undefined) return;
    if (offset === null && !item.file) { // expired; one that has its file begins anew
      sending.forget(item);
      return drop(item);
    }
    item.acknowledgedBytes = item.sentBytes = offset ?? 0;
    changed(item);
    if (offset !== item.sizeBytes) return;
    sending.forget(item); // all of it was received as it was paused, or as the page went
    finish(item);
  }

  /** Whoever waits begins, where there is room. */
  function pump() {
    if (gathering || senderFault(senderNow())) return;
    const all = [...items];
    let sendingNow = all.filter((item) => item.state === "sending").length;
    const kept = all.filter((item) => item.state === "offline");
    if (kept.some(({ cause }) => cause === "network")) return; // it would be the same for all others
    let held = sendingNow + kept.length;
    for (const item of all) {
      if (sendingNow >= MOST_SENDING || held >= MOST_HELD) return;
      if (item.state !== "waiting") continue;
      item.sender ??= senderNow(); // what stands there when sending begins
      sending.start(item);
      sendingNow += 1;
      held += 1;
    }
  }

  function pause(item) {
    if (!["waiting", "sending", "offline"].includes(item.state)) return;
    const hadBegun = item.url !== null;
    sending.stop(item);
    Object.assign(item, { state: "paused", trouble: "" });
    changed(item);
    pump();
    if (hadBegun) for (const afterMs of LOOK_AGAIN_MS) setTimeout(lookAt, afterMs, item);
  }

  function resume(item) {
    if (item.state !== "paused" || !item.file) return;
    item.state = "waiting";
    changed(item);
    pump();
  }

  function retry(item) {
    if (item.state === "offline") {
      sending.stop(item); // whatever it waits for
      return sending.start(item);
    }
    if (!item.file || !(item.state === "broken" || item.mayTry)) return;
    Object.assign(item, { state: "waiting", trouble: "", mayTry: false, isUnsure: false, failures: 0 });
    changed(item);
    pump();
  }

  /** Takes it from the list; what is not yet received is ended on the server, too, and stays until that is certain. */
  function remove(item) {
    if (item.state === "cancelling") return;
    if (!isUnfinished(item)) return drop(item);
    if (item.isUnsure) {
      sending.forget(item); // asked already, and the server did not say
      return drop(item);
    }
    item.isCancelled = true;
    if (!sending.isOnlyHere(item)) return void cancel(item);
    sending.stop(item);
    drop(item);
  }

  async function cancel(item) {
    clearTimeout(item.timer);
    Object.assign(item, { state: "cancelling", trouble: "" });
    changed(item);
    pump();
    const outcome = await sending.terminate(item);
    if (outcome === "ended") return drop(item);
    item.isCancelled = false;
    if (outcome === "received") return finish(item, "Too late to cancel: it is received.");
    Object.assign(item, { state: "broken", isUnsure: true, trouble: "The server does not answer, so it is not known whether it was received. Trying again cannot send it twice." });
    changed(item);
  }

  function drop(item) {
    item.state = "removed";
    items.delete(item);
    alike.get(likenessOf(item))?.delete(item);
    changed(item);
    pump();
  }

  function finish(item, trouble = "") {
    Object.assign(item, { state: "received", trouble, file: null, sentBytes: item.sizeBytes, acknowledgedBytes: item.sizeBytes });
    follow(item);
    changed(item);
    pump();
  }

  /** The API's word on a file that was received. */
  function learn(item, status) {
    item.status = status;
    item.state = { accepted: "received", settling: "settling", stored: "stored", failed: "failed", gone: "broken" }[status.status];
    if (item.state === "broken") item.trouble = "It was received, and somebody has thrown it away since.";
    changed(item);
  }

  const each = (act, states) => () => {
    gathering = true;
    for (const item of items) if (states.includes(item.state)) act(item);
    gathering = false;
    pump();
  };

  return {
    items, speed, add, addUnreadable, addUnfinished, addReceived, pump, pause, resume, retry, remove, learn,
    pauseAll: each(pause, ["waiting", "sending", "offline"]),
    resumeAll: each(resume, ["paused"]),
    cancelAll: each(remove, ["waiting", "sending", "offline", "paused", "broken"]),
    retryFailed: each(retry, ["broken", "offline"]),
    removeFinished: each(remove, ["stored", "refused"]),
  };
}

export function isUnfinished({ state, status }) {
  return status === null && ["waiting", "sending", "paused", "offline", "cancelling", "broken"].includes(state); // a status has what was received
}

/** What tells one file from another before its bytes are known; the folder it was in is looked at besides. */
function likenessOf({ name, size, sizeBytes = size, lastModified }) {
  return JSON.stringify([name, sizeBytes, lastModified]);
}
