// A file's row: made once, then only what changed is written. Its markup and icons are templates of the page.
import { factsOf, formatTime, stateOf, storedAfter, troubleTextOf } from "./words.js";

/** What a person can do, by state; an act that stays keeps its button, and with it the focus. */
const ACTS = {
  waiting: ["hold", "drop"], sending: ["hold", "drop"], paused: ["hold", "drop"], offline: ["retry", "hold", "drop"], refused: ["drop"], broken: ["retry", "drop"],
  received: ["receipt", "drop"], settling: ["receipt", "drop"], stored: ["receipt", "download", "drop"], failed: ["letter", "receipt", "drop"],
};
const PROGRESSING = ["sending", "paused", "offline"];
const ICONS = { stored: "check", failed: "cross", refused: "cross", broken: "alert", offline: "alert", paused: "pause" };

export function createRow(item) {
  const row = document.getElementById("upload-row").content.firstElementChild.cloneNode(true);
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const [tile, name, path, bar, state, facts, trouble, twin, acts] = ["tile", "name", "path", "bar", "state", "facts", "trouble", "twin", "acts"].map(field);
  const shown = {};
  name.textContent = item.name;
  path.textContent = item.path.slice(0, -item.name.length - 1);
  path.parentElement.hidden = path.textContent === "";

  /** Writes what is new; cheap when nothing is. */
  function fill() {
    once("state", item.state + Boolean(item.file) + item.mayTry, () => showState());
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
      const time = document.createElement("time");
      time.dateTime = item.status.event_time;
      time.textContent = formatTime(new Date(item.status.event_time));
      time.title = `The ledger’s time; ${storedAfter(item.status)}`;
      shown.words = stateOf(item);
      state.replaceChildren("Stored ", time);
    }
    showActs();
  }

  function showActs() {
    const wanted = ACTS[item.state].map((act) => (act === "hold" && item.state === "paused" && !item.file ? "choose" : act));
    if (item.state === "refused" && item.mayTry) wanted.unshift("retry");
    const focused = acts.contains(document.activeElement) ? document.activeElement : null;
    const there = new Map([...acts.children].map((element) => [element.dataset.act, element]));
    for (const [act, element] of there) if (!wanted.includes(act)) element.remove();
    wanted.forEach((act, place) => {
      const element = there.get(act) ?? actOf(act);
      dress(element, act);
      if (acts.children[place] !== element) acts.insertBefore(element, acts.children[place] ?? null);
    });
    // Moving an element, or taking it away, loses the focus: it goes back, or to what came in its place.
    if (focused && document.activeElement !== focused) (focused.isConnected ? focused : acts.firstElementChild).focus({ preventScroll: true });
  }

  function actOf(act) {
    const link = ["receipt", "letter", "download"].includes(act);
    const element = document.createElement(link ? "a" : "button");
    if (!link) element.type = "button";
    element.dataset.act = act;
    return element;
  }

  function dress(element, act) {
    const { icon, label, text, href } = {
      hold: () => (item.state === "paused" ? { icon: "play", label: "Go on with" } : { icon: "pause", label: "Pause" }),
      choose: () => ({ text: "Choose the file", label: "Choose again:" }),
      retry: () => (item.state === "refused" ? { text: "Try anyway", label: "Try anyway:" } : { icon: "retry", label: "Try again now:" }),
      drop: () => ({ icon: "cross", label: ["waiting", "sending", "paused", "offline", "broken"].includes(item.state) ? "Cancel" : "Remove from the list:" }),
      receipt: () => ({ text: "Receipt", label: "Receipt of", href: `/upload/${item.fileId}` }),
      letter: () => ({ text: "What to do", label: "What to do about", href: `/dead-letters#${item.fileId}` }),
      download: () => ({ icon: "download", label: "Download", href: `/api/files/${item.fileId}` }),
    }[act]();
    const dressed = `${icon ?? text}|${label}`;
    if (element.dataset.dressed === dressed) return;
    element.dataset.dressed = dressed;
    element.className = text ? "button small" : "icon-button";
    element.replaceChildren(icon ? iconOf(icon) : text);
    element.setAttribute("aria-label", `${label} ${item.name}`);
    if (icon) element.title = label.replace(":", "").replace(/ (with|of)$/, "");
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
    twin.lastElementChild.append("These bytes were handed in before, as ", link, ` on ${formatTime(new Date(before.event_time))}: kept once.`);
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

/** "report.PDF" -> "pdf", for the tile: at most four letters fit. */
function endingOf(name) {
  return /\.([a-z0-9]{1,4})$/i.exec(name)?.[1].toLowerCase() ?? "file";
}
