// A file's row: made once, then only what changed is written. Its markup and icons are templates of the page.
import { isUnfinished } from "./queue.js";
import { factsOf, formatTime, stateOf, storedAfter, troubleTextOf } from "./words.js";

/** What a person can do, by state; an act that stays keeps its button, and with it the focus. */
const ACTS = {
  waiting: ["hold", "drop"], sending: ["hold", "drop"], paused: ["hold", "drop"], offline: ["hold", "drop"], cancelling: ["drop"], refused: ["drop"], broken: ["retry", "drop"],
  received: ["drop"], settling: ["drop"], stored: ["download", "drop"], failed: ["drop"],
};
const LINKS = { received: ["receipt"], settling: ["receipt"], stored: ["receipt"], failed: ["letter", "receipt"] };
const PROGRESSING = ["sending", "paused", "offline"];
const ICONS = { stored: "check", failed: "cross", refused: "cross", broken: "alert", offline: "alert", paused: "pause" };

export function createRow(item) {
  const row = document.getElementById("upload-row").content.firstElementChild.cloneNode(true);
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const [tile, name, path, bar, state, facts, links, trouble, ask, twin, acts] = ["tile", "name", "path", "bar", "state", "facts", "links", "trouble", "ask", "twin", "acts"].map(field);
  const shown = {};
  name.textContent = name.title = item.name; // a long one is cut off with "…"
  path.textContent = path.title = item.path.slice(0, -item.name.length - 1);
  path.parentElement.hidden = path.textContent === "";

  /** Writes what is new; cheap when nothing is. */
  function fill() {
    once("state", item.state + Boolean(item.file) + item.mayTry + item.isUnsure, () => showState());
    once("id", item.fileId, () => item.fileId && (row.dataset.fileId = item.fileId));
    once("words", stateOf(item), (words) => (state.textContent = words));
    once("facts", factsOf(item).join(" · "), (text) => (facts.textContent = text));
    once("bar", PROGRESSING.includes(item.state) && item.sentBytes > 0, (visible) => (bar.hidden = !visible));
    if (!bar.hidden) once("value", Math.floor((item.sentBytes / item.sizeBytes) * 1000), (value) => (bar.value = value / 1000));
    once("trouble", troubleTextOf(item), (text) => {
      trouble.textContent = text;
      trouble.parentElement.hidden = text === "";
    });
    once("twin", item.status?.identical_to?.file_id, () => showTwin());
  }

  function showState() {
    row.dataset.state = item.state;
    const icon = ICONS[item.state];
    tile.replaceChildren(icon ? iconOf(icon) : endingOf(item.name));
    if (item.state === "stored") {
      const time = timeOf(item.status.event_time);
      time.title = `The ledger’s time; ${storedAfter(item.status)}`;
      shown.words = stateOf(item);
      state.replaceChildren("Stored ", time);
    }
    showActs();
  }

  function showActs() {
    const focused = row.contains(document.activeElement) ? document.activeElement : null;
    const noFile = item.state === "paused" && !item.file;
    put(acts, item.file ? ACTS[item.state] : ACTS[item.state].filter((act) => act !== "hold" && act !== "retry"));
    put(ask, noFile ? ["choose"] : item.state === "refused" && item.mayTry ? ["try"] : []);
    put(links, LINKS[item.state] ?? []);
    // Moving a button, or taking it away, loses the focus: it goes back, or to the receipt, or to what there is.
    if (focused && document.activeElement !== focused) (focused.isConnected ? focused : row.querySelector("a[data-act], button[data-act]")).focus({ preventScroll: true });
  }

  /** Has the place hold these and no others; those that stay keep their elements. */
  function put(place, wanted) {
    for (const element of place.querySelectorAll("[data-act]")) if (!wanted.includes(element.dataset.act)) element.remove();
    wanted.forEach((act, index) => {
      const element = place.querySelector(`[data-act="${act}"]`) ?? made(act);
      dress(element, act);
      if (place.children[index] !== element) place.insertBefore(element, place.children[index] ?? null);
    });
  }

  function made(act) {
    const element = document.createElement(["receipt", "letter", "download"].includes(act) ? "a" : "button");
    if (element.localName === "button") element.type = "button";
    element.dataset.act = act;
    return element;
  }

  function dress(element, act) {
    const { icon, text, label, href } = {
      hold: () => (item.state === "paused" ? { icon: "play", label: "Go on with" } : { icon: "pause", label: "Pause" }),
      retry: () => ({ icon: "retry", label: "Try again:" }),
      drop: () => ({ icon: "cross", label: isUnfinished(item) && !item.isUnsure ? "Cancel" : "Remove from the list:" }),
      choose: () => ({ text: "Choose the file", label: "Choose the file again:" }),
      try: () => ({ text: "Try anyway", label: "Try anyway:" }),
      download: () => ({ icon: "download", label: "Download", href: `/api/files/${item.fileId}` }),
      receipt: () => ({ text: "Receipt", label: "Receipt of", href: `/upload/${item.fileId}` }),
      letter: () => ({ text: "What to do", label: "What to do about", href: `/dead-letters#${item.fileId}` }),
    }[act]();
    const dressed = `${icon ?? text}|${label}`;
    if (element.dataset.dressed === dressed) return;
    element.dataset.dressed = dressed;
    element.className = icon ? "icon-button" : href ? "" : "button small";
    element.replaceChildren(icon ? iconOf(icon) : text);
    element.setAttribute("aria-label", `${label} ${item.name}`);
    if (icon) element.title = label.replace(":", "").replace(/ with$/, "");
    if (href) element.href = href;
    if (act === "download") element.download = "";
  }

  function showTwin() {
    const before = item.status?.identical_to;
    twin.hidden = !before;
    if (!before) return;
    const link = document.createElement("a");
    link.href = `/upload/${before.file_id}`;
    const bdi = document.createElement("bdi");
    bdi.textContent = before.filename;
    link.append(bdi);
    twin.replaceChildren(iconOf("copy"), document.createElement("span"));
    twin.lastElementChild.append("These bytes were handed in before, as ", link, " on ", timeOf(before.event_time), ": kept once.");
  }

  function once(what, value, write) {
    if (shown[what] === value) return;
    shown[what] = value;
    write(value);
  }

  bar.setAttribute("aria-label", `Sending ${item.name}`);
  fill();
  return { element: row, fill };
}

export function iconOf(name) {
  return document.getElementById("icons").content.querySelector(`[data-icon="${name}"] svg`).cloneNode(true);
}

function timeOf(instant) {
  const time = document.createElement("time");
  time.dateTime = instant;
  time.textContent = formatTime(new Date(instant));
  return time;
}

/** "report.PDF" -> "pdf", for the tile: at most four letters fit. */
function endingOf(name) {
  return /\.([a-z0-9]{1,4})$/i.exec(name)?.[1].toLowerCase() ?? "file";
}
