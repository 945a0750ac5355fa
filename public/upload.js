// The upload form works without this file. It tells what was chosen, and what would be refused, before any byte is sent.
import { formatBytes } from "./format.js";

const form = document.getElementById("upload");
const drop = document.getElementById("drop");
const input = document.getElementById("file");
const chosen = document.getElementById("chosen");
const note = document.getElementById("chosen-note");
const send = document.getElementById("send");
const progress = document.getElementById("chosen-progress");
const maxBytes = Number(form.dataset.maxBytes);
const sendLabel = send.textContent;

input.addEventListener("change", () => showChosen());
form.addEventListener("submit", (event) => {
  // A second click while the first request runs would hand the file in twice.
  if (form.hasAttribute("data-sending")) return event.preventDefault();
  setSending(true);
});
// "Back" may bring this page from the browser's memory as it was left: mid-sending, or with a file already chosen.
addEventListener("pageshow", () => {
  setSending(false);
  showChosen();
});

// A drop beside the zone would make the browser open the file and leave the page.
let depth = 0;
addEventListener("dragenter", (event) => carriesFiles(event) && setDragging((depth += 1)));
addEventListener("dragleave", (event) => carriesFiles(event) && setDragging((depth -= 1)));
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  setDragging((depth = 0));
  if (form.hasAttribute("data-sending")) return;
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  if (items.length > 1) return tell("One file at a time, please: drop them one by one.", true);
  if (items[0]?.webkitGetAsEntry?.()?.isDirectory) return tell("That is a folder. Drop a file, or pack the folder first.", true);
  input.files = event.dataTransfer.files;
  showChosen();
});

function showChosen() {
  const file = input.files[0];
  chosen.hidden = !file;
  drop.toggleAttribute("data-chosen", Boolean(file));
  if (!file) return tell("", false);
  document.getElementById("chosen-name").textContent = file.name;
  document.getElementById("chosen-size").textContent = formatBytes(file.size);
  if (file.size === 0) return tell("The file is empty: zero bytes are not accepted.", true);
  if (file.size > maxBytes) return tell(`Too large: the limit is ${formatBytes(maxBytes)}.`, true);
  tell("", false);
}

/** Shows the sentence. A refused file also keeps the form from being sent; a refused drop leaves an earlier choice good. */
function tell(sentence, refused) {
  const file = input.files[0];
  const blocked = Boolean(file) && (file.size === 0 || file.size > maxBytes);
  note.textContent = sentence;
  note.classList.toggle("bad", refused);
  chosen.classList.toggle("bad", blocked);
  input.setCustomValidity(blocked ? sentence : "");
}

function setSending(sending) {
  form.toggleAttribute("data-sending", sending);
  send.setAttribute("aria-disabled", String(sending));
  send.textContent = sending ? "Sending…" : sendLabel;
  progress.hidden = !sending;
}

function setDragging(count) {
  drop.toggleAttribute("data-dragging", count > 0);
}

function carriesFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}
