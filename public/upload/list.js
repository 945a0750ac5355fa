// The rows of all files. However many there are, a frame does a bounded amount of work, and figures change four times a second.
import { createRow } from "./row.js";

const MOST_A_FRAME = 60; // rows made or written
const FIGURES_EVERY_MS = 250;

/** @param act  is given what a person wants of an item: hold, retry, choose, drop */
export function openList(list, { act }) {
  const rows = new Map(); // item -> row
  const itemOf = new WeakMap(); // element -> item
  const stale = new Set(); // items with news
  let planned; // "frame", or the timer of figures, which other news overtakes
  let figuresAt = 0;

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    const row = button?.closest("[data-upload]");
    if (row) act(button.dataset.act, itemOf.get(row));
  });

  /** Tells that something of the item changed. */
  function show(item) {
    if (item.state === "removed") return take(item);
    stale.add(item);
    plan(item.state === "sending" && rows.has(item) ? Math.max(0, figuresAt + FIGURES_EVERY_MS - performance.now()) : 0);
  }

  function plan(delayMs) {
    if (planned === "frame" || (planned && (delayMs > 0 || document.hidden))) return;
    clearTimeout(planned);
    if (document.hidden) planned = setTimeout(write, FIGURES_EVERY_MS); // a hidden page has no frames, and its title counts on
    else if (delayMs > 0) planned = setTimeout(nextFrame, delayMs);
    else nextFrame();
  }

  function nextFrame() {
    planned = "frame";
    requestAnimationFrame(write);
  }

  function write() {
    planned = undefined;
    figuresAt = performance.now();
    const fresh = document.createDocumentFragment();
    let left = MOST_A_FRAME;
    for (const item of stale) {
      if (left-- === 0) break;
      stale.delete(item);
      const row = rows.get(item);
      if (row) {
        row.fill();
        continue;
      }
      const made = createRow(item);
      rows.set(item, made);
      itemOf.set(made.element, item);
      fresh.append(made.element);
    }
    list.append(fresh);
    if (stale.size > 0) plan(0);
  }

  /** The row goes; a focus in it goes to the next one's first button. */
  function take(item) {
    stale.delete(item);
    const row = rows.get(item);
    rows.delete(item);
    if (!row) return;
    const { element } = row;
    const heir = element.contains(document.activeElement) ? (element.nextElementSibling ?? element.previousElementSibling) : null;
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    if (hadFocus) (heir?.querySelector("[data-act]") ?? document.getElementById("file")).focus({ preventScroll: heir !== null });
  }

  return { show };
}
