// Files out of what was dropped, chosen or pasted: { file, path }, path being that below a folder, or "".

/** Must be called while the drop event runs: afterwards a browser takes the entries back. */
export function entriesOf(dataTransfer) {
  const items = [...dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  return { entries, files: items.map((item, index) => (entries[index] ? null : item.getAsFile())).filter(Boolean) };
}

/**
 * Walks the folders; hands the files over as they are found, so that a folder of many thousands begins at once.
 * @param take  is given a list of { file, path }
 * @param fail  is given the path of what the browser could not read
 */
export async function walk({ entries, files }, take, fail) {
  if (files.length > 0) take(files.map((file) => ({ file, path: "" })));
  const folders = [];
  await takeFiles(entries, folders, take, fail);
  while (folders.length > 0) {
    const folder = folders.pop();
    const reader = folder.createReader();
    try {
      // 100 at a time in Chromium, until there are none left.
      for (let batch = await readBatch(reader); batch.length > 0; batch = await readBatch(reader)) await takeFiles(batch, folders, take, fail);
    } catch {
      fail(folder.fullPath.slice(1));
    }
  }
}

/** From an input: webkitRelativePath is set where a folder was chosen. */
export function chosenIn(input) {
  return [...input.files].map((file) => ({ file, path: file.webkitRelativePath ?? "" }));
}

/** Browsers call every pasted picture image.png: each gets a name of its own, with the time. */
export function pasted(clipboardData, now = new Date()) {
  const stamp = now.toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
  return [...clipboardData.files].map((file, index) => {
    if (!/^image\.\w+$/.test(file.name)) return { file, path: "" };
    const name = `pasted-${stamp}${index > 0 ? `-${index + 1}` : ""}${file.name.slice(5)}`;
    return { file: new File([file], name, { type: file.type, lastModified: file.lastModified }), path: "" };
  });
}

async function takeFiles(entries, folders, take, fail) {
  folders.push(...entries.filter((entry) => entry?.isDirectory));
  const found = await Promise.all(entries.filter((entry) => entry?.isFile).map((entry) => (
    fileOf(entry).then((file) => ({ file, path: entry.fullPath.lastIndexOf("/") > 0 ? entry.fullPath.slice(1) : "" }), () => {
      fail(entry.fullPath.slice(1));
      return null;
    })
  )));
  const readable = found.filter(Boolean);
  if (readable.length > 0) take(readable);
}

const readBatch = (reader) => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));
