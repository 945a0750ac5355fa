// The ways in: drop anywhere on the page, choose files, choose a folder, paste.
import { chosenIn, entriesOf, pasted, walk } from "./gather.js";

/**
 * @param take  is given lists of { file, path }
 * @param fail  is given the path of what the browser could not read
 */
export function openDrop({ zone, input, folderInput, folderButton, take, fail }) {
  // A drop beside the zone would make the browser open the file and leave the page, so all of the page is the zone.
  let depth = 0;
  addEventListener("dragenter", (event) => carriesFiles(event) && setDragging((depth += 1)));
  addEventListener("dragleave", (event) => carriesFiles(event) && setDragging((depth -= 1)));
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    setDragging((depth = 0));
    void walk(entriesOf(event.dataTransfer), take, fail);
  });
  addEventListener("paste", (event) => {
    if ((event.clipboardData?.files.length ?? 0) === 0) return; // text, for the field it is pasted into
    event.preventDefault();
    take(pasted(event.clipboardData));
  });

  for (const chooser of [input, folderInput]) {
    chooser.addEventListener("change", () => {
      take(chosenIn(chooser));
      chooser.value = ""; // so that choosing the same file again is a change
    });
  }
  folderButton.hidden = !("webkitdirectory" in folderInput);
  folderButton.addEventListener("click", () => folderInput.click());

  function setDragging(count) {
    zone.toggleAttribute("data-dragging", count > 0);
  }
}

function carriesFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}
