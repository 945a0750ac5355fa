// What went wrong while sending, in words, and whether trying again by itself can help.
const LONGEST_ANSWER = 300; // characters of an answer that is no JSON: a proxy's page is not for people

/**
 * kind: `network` and `busy` go on by themselves; `gone`: the server has nothing of it any more, begin anew;
 * `refused`: this file cannot be handed in as it is; `broken`: a person has to look, and can try again.
 * @param item  with its file and the bytes acknowledged so far
 */
export async function troubleOf(error, item) {
  const response = error.originalResponse;
  const status = response?.getStatus() ?? 0;
  if (status === 0) {
    // A file that was changed or taken away fails like a lost connection; only reading it tells the two apart.
    if (!(await isReadable(item.file, item.sentBytes))) {
      return { kind: "broken", sentence: "The file was changed or removed on this device after it was chosen. Choose it again." };
    }
    return { kind: "network", sentence: navigator.onLine ? "The server does not answer." : "There is no network." };
  }
  const sentence = sentenceOf(response) ?? `The server answers ${status}.`;
  if (item.url && (status === 404 || status === 410)) return { kind: "gone", sentence };
  // 409: the offset moved on under us; 423: another request has it in hand. Both pass by asking where it is.
  if (status < 400) return { kind: "busy", sentence: "Something on the way answers in the server’s place." }; // such as a hotel's log-in page
  if (status >= 500 || [408, 409, 423, 425, 429].includes(status)) return { kind: "busy", sentence, retryAfterMs: retryAfterMs(response) };
  if ([400, 413, 415, 422].includes(status)) return { kind: "refused", sentence };
  return { kind: "broken", sentence };
}

async function isReadable(file, at) {
  try {
    await file.slice(Math.min(at, file.size - 1), Math.min(at + 1, file.size)).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function sentenceOf(response) {
  const body = response.getBody() ?? "";
  try {
    const { error } = JSON.parse(body);
    if (typeof error === "string") return error;
  } catch {
    // Not JSON: a proxy's answer, or a line of text.
  }
  const text = body.trim();
  return text !== "" && text.length <= LONGEST_ANSWER && !text.startsWith("<") ? text : undefined;
}

function retryAfterMs(response) {
  const seconds = Number(response.getHeader("Retry-After"));
  return Number.isFinite(seconds) ? seconds * 1000 : 0;
}
