// The upload page with scripts: files go on their way as soon as they are chosen. Without this file the form sends one.
import { openDrop } from "./drop.js";
import { createFollowing } from "./following.js";
import { openList } from "./list.js";
import { createMemory, idOf } from "./memory.js";
import { createQueue } from "./queue.js";
import { createReceived } from "./received.js";
import { createRules, senderFault } from "./rules.js";
import { createSending } from "./sending.js";
import { openTotals } from "./totals.js";
import { createVoice } from "./voice.js";
import { newsOf } from "./words.js";

if ("tus" in globalThis) void open(); // else the library did not come, and the form is all there is

async function open() {
  const byId = (id) => document.getElementById(id);
  const form = byId("upload");
  const sender = byId("uploader_id");
  const input = byId("file");
  const early = isFirstVisit() ? [...input.files] : []; // chosen before the scripts were there
  const memory = createMemory();
  const received = createReceived();
  const voice = createVoice(byId("spoken"));

  const following = createFollowing({ changed: (item, status) => queue.learn(item, status) });
  const queue = createQueue({
    openSending: (calls) => createSending({ endpoint: new URL("/api/uploads", location.href).href, memory, ...calls }),
    refusalOf: createRules({ mostBytes: Number(form.dataset.maxBytes), allowedTypes: JSON.parse(form.dataset.allowedTypes) }),
    senderNow: () => sender.value.trim(),
    follow: following.follow,
    changed,
  });
  const list = openList(byId("uploads"), { act });
  const totals = openTotals({ items: queue.items, queue });

  form.toggleAttribute("data-live", true);
  input.multiple = true;
  input.required = false;
  input.value = "";
  sender.removeAttribute("maxlength"); // which would cut what is pasted without a word
  sender.addEventListener("input", checkSender);
  form.addEventListener("submit", (event) => {
    event.preventDefault(); // Enter in the field
    input.focus();
  });
  addEventListener("beforeunload", (event) => {
    if ([...queue.items].some(({ state, file }) => file && ["sending", "waiting", "offline"].includes(state))) event.preventDefault();
  });
  openDrop({ zone: byId("drop"), input, folderInput: byId("folder"), folderButton: byId("choose-folder"), take, fail: queue.addUnreadable });

  received.all().forEach(queue.addReceived);
  if (early.length > 0) take(early.map((file) => ({ file, path: "" })));
  for (const record of await memory.unfinished()) if (![...queue.items].some((item) => idOf(item) === idOf(record))) queue.addUnfinished(record);

  function take(found) {
    if (found.length === 0) return;
    const twice = queue.add(found);
    totals.tellTwice(twice);
    const added = found.length - twice.length;
    if (added > 0) voice.say(added === 1 ? "1 file added." : `${added} files added.`);
    else voice.say(twice.length === 1 ? `${twice[0].file.name} is in the list already.` : `${twice.length} files are in the list already.`);
    checkSender();
  }

  function changed(item) {
    list.show(item);
    totals.show();
    const news = newsOf(item);
    if (news && item.toldState !== item.state) voice.tell(news, item.name);
    item.toldState = item.state;
    if (item.state === "removed") received.forget(item.fileId);
    else if (item.status || item.state === "received") received.keep(item);
  }

  function act(what, item) {
    if (what === "retry" || what === "try") queue.retry(item);
    else if (what === "choose") input.click();
    else if (what === "hold" && item.state === "paused") queue.resume(item);
    else if (what === "hold") queue.pause(item);
    else if (what === "drop") {
      queue.remove(item);
      if (item.state === "removed" && !item.isCancelled) voice.say(`${item.name}: removed from the list.`);
    }
  }

  /** A sender the server would refuse holds the files back until it is mended. */
  function checkSender() {
    const fault = senderFault(sender.value.trim());
    const isHolding = fault !== undefined && [...queue.items].some(({ state }) => state === "waiting");
    byId("sender-fault").textContent = fault ? `${fault}${isHolding ? " What waits is sent when this is mended." : ""}` : "";
    sender.setAttribute("aria-invalid", String(fault !== undefined));
    if (fault === undefined) queue.pump();
  }
}

/** After a reload or "back" the browser may fill in what was chosen before: nobody chose it now. */
function isFirstVisit() {
  return performance.getEntriesByType("navigation")[0]?.type === "navigate";
}
