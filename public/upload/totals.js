// All files together: how many are where, how far, how fast; and the buttons for all of them.
import { formatBytes, formatCount } from "../format.js";
import { isUnfinished } from "./queue.js";
import { speedOf } from "./words.js";

const EVERY_MS = 250;
const SURE_WITHIN_MS = 5_000;
const MOST_NAMED_TWICE = 3;

export function openTotals({ items, queue }) {
  const byId = (id) => document.getElementById(id);
  const [panel, headline, figures, bar] = ["files", "files-headline", "files-figures", "files-bar"].map(byId);
  const buttons = { pauseAll: byId("pause-all"), resumeAll: byId("resume-all"), retryFailed: byId("retry-failed"), cancelAll: byId("cancel-all"), removeFinished: byId("remove-finished") };
  const title = document.title;
  let timer;
  let doubt;
  let twice = [];

  for (const [act, button] of Object.entries(buttons)) {
    button.addEventListener("click", () => {
      if (act === "cancelAll" && !isSure(button)) return;
      queue[act]();
      write();
      if (button.hidden) (Object.values(buttons).find(({ hidden }) => !hidden) ?? byId("file")).focus();
    });
  }
  byId("send-twice").addEventListener("click", () => {
    const wanted = twice;
    tellTwice([]);
    queue.add(wanted, { again: true });
    byId("file").focus();
  });
  byId("leave-twice").addEventListener("click", () => {
    tellTwice([]);
    byId("file").focus();
  });

  /** What is cancelled is gone from the server: the first click asks, the second does. */
  function isSure(button) {
    const sure = button.hasAttribute("data-sure");
    ask(!sure);
    clearTimeout(doubt);
    if (!sure) doubt = setTimeout(ask, SURE_WITHIN_MS, false);
    return sure;

    function ask(asking) {
      button.toggleAttribute("data-sure", asking);
      button.classList.toggle("danger", asking);
      button.textContent = asking ? "Cancel all, really?" : "Cancel all";
    }
  }

  /** Four times a second; the first file shows the list at once, and the last one takes it away. */
  function show() {
    const isDue = panel.hidden !== (items.size === 0);
    if (isDue) clearTimeout(timer);
    if (isDue || !timer) timer = setTimeout(write, isDue ? 0 : EVERY_MS);
  }

  function write() {
    clearTimeout(timer);
    timer = undefined;
    const count = {};
    let sizeBytes = 0;
    let doneBytes = 0;
    let activeBytes = 0;
    for (const item of items) {
      count[item.state] = (count[item.state] ?? 0) + 1;
      if (item.state === "refused" || item.state === "cancelling") continue;
      sizeBytes += item.sizeBytes;
      doneBytes += isUnfinished(item) ? item.sentBytes : item.sizeBytes;
      if (["sending", "waiting", "offline"].includes(item.state)) activeBytes += item.sizeBytes - item.sentBytes;
    }
    const of = (...states) => states.reduce((sum, state) => sum + (count[state] ?? 0), 0);
    panel.hidden = items.size === 0;
    byId("upload").toggleAttribute("data-compact", items.size > 0);
    headline.textContent = headlineOf(of);
    const isSending = of("sending") > 0;
    if (!isSending && (of("waiting") === 0 || of("offline") > 0)) queue.speed.forget(); // else the pause would count as slowness
    const unfinished = of("waiting", "sending", "paused", "offline", "broken") > 0;
    const facts = unfinished
      ? [`${Math.floor((doneBytes / sizeBytes) * 100)} %`, `${formatBytes(doneBytes)} of ${formatBytes(sizeBytes)}`, ...(isSending ? speedOf(queue.speed.perSecond(), activeBytes) : [])]
      : sizeBytes > 0 ? [formatBytes(sizeBytes)] : [];
    figures.textContent = facts.join(" · ");
    bar.hidden = !unfinished || items.size < 2;
    bar.value = sizeBytes > 0 ? doneBytes / sizeBytes : 0;
    const bad = of("failed", "broken");
    panel.dataset.tone = of("offline") > 0 ? "warn" : of("sending", "waiting", "paused") > 0 ? "none" : bad > 0 ? "bad" : of("stored") > 0 && of("received", "settling") === 0 ? "good" : "none";
    byId("files-trouble").textContent = bad > 0 && panel.dataset.tone !== "bad" ? `${formatCount(bad)} ${bad === 1 ? "needs" : "need"} a look` : "";
    document.title = isSending ? `${facts[0]} · ${title}` : title;
    buttons.pauseAll.hidden = of("waiting", "sending", "offline") === 0;
    buttons.resumeAll.hidden = ![...items].some((item) => item.state === "paused" && item.file);
    buttons.retryFailed.hidden = of("broken", "offline") === 0;
    buttons.cancelAll.hidden = of("waiting", "sending", "offline", "paused", "broken") < 2;
    buttons.removeFinished.hidden = of("stored", "refused") === 0 || items.size < 2 || of("sending", "waiting") > 0;
    if (isSending) show(); // a speed changes also when nothing comes
  }

  /** Files that are in the list already. */
  function tellTwice(found) {
    twice = found;
    byId("twice").hidden = twice.length === 0;
    if (twice.length === 0) return;
    const names = twice.slice(0, MOST_NAMED_TWICE).map(({ file }) => file.name);
    const more = twice.length - names.length;
    byId("twice-names").textContent = names.join(", ") + (more > 0 ? ` and ${formatCount(more)} more` : "");
    byId("twice-verb").textContent = twice.length === 1 ? "is in the list already, so it is not sent twice." : "are in the list already, so they are not sent twice.";
  }

  return { show, tellTwice };
}

function headlineOf(of) {
  const files = (count) => (count === 1 ? "1 file" : `${formatCount(count)} files`);
  const all = of("waiting", "sending", "paused", "offline", "broken", "received", "settling", "stored", "failed");
  const received = of("received", "settling", "stored", "failed");
  const bad = of("failed", "broken");
  if (of("offline") > 0) return "Interrupted. It goes on by itself.";
  if (of("sending", "waiting") > 0) return all === 1 ? "Sending 1 file" : `Sending ${files(all)}, ${formatCount(received)} received`;
  if (of("cancelling") > 0) return `Cancelling ${files(of("cancelling"))}`;
  if (of("paused") > 0) return `${files(of("paused"))} not finished`;
  if (bad > 0) return bad === 1 ? "1 file needs a look" : `${files(bad)} need a look`;
  if (of("received", "settling") > 0) return `Received, and safe. ${of("stored") > 0 ? `${formatCount(of("stored"))} of ${files(all)} stored.` : "Being stored."}`;
  if (of("stored") > 0) return all === 1 ? "Stored, and in the ledger" : `All ${files(all)} stored, and in the ledger`;
  return of("refused") === 1 ? "1 file not sent" : `${files(of("refused"))} not sent`;
}
