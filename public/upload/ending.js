// Whether an upload could be ended, or had been received before. "Cancelled" is said only of what cannot be stored any more.
const ASK_AGAIN_MS = [500, 2_000, 8_000];
const LATE_MS = [0, 500, 2_000]; // a server may be taking in a body whose connection is gone already
const ANSWER_WITHIN_MS = 10_000;
const REFUSED = [400, 413, 415]; // with its bytes, too; any other answer may be a proxy's, and say nothing

/**
 * @param item  with an address, or with the Idempotency-Key of the one request that had all of it
 * @returns "ended", "received", or "unknown": the server does not say
 */
export async function endOnServer(item, endpoint, metadata) {
  for (const againMs of [...ASK_AGAIN_MS, undefined]) {
    const outcome = await tryToEnd(item, endpoint, metadata).catch(() => "unknown");
    if (outcome !== "unknown" || againMs === undefined) return outcome;
    await pause(againMs);
  }
}

/** true, false; undefined: the server does not say. */
export async function isReceived(fileId) {
  try {
    const response = await ask(`/api/files/${fileId}/status`, {});
    if (response.status === 404) return false;
    return response.ok && (await response.json()).file_id === fileId ? true : undefined; // else it is a proxy's page
  } catch {
    return undefined;
  }
}

async function tryToEnd(item, endpoint, metadata) {
  if (item.url === null) {
    // The same creation without its bytes: it leads to what the first one made, or to an empty upload that can be ended.
    const created = await ask(endpoint, { method: "POST", headers: {
      "Upload-Length": String(item.sizeBytes), "Upload-Metadata": encoded(metadata), "Idempotency-Key": item.idempotencyKey,
    } });
    if (created.status !== 201) return REFUSED.includes(created.status) ? "ended" : "unknown";
    item.url = new URL(created.headers.get("Location"), endpoint).href;
    item.fileId = new URL(item.url).pathname.split("/").at(-1);
    item.cameWhole = true;
    if (Number(created.headers.get("Upload-Offset")) === item.sizeBytes) return "received";
  }
  const { status } = await ask(item.url, { method: "DELETE" });
  if (status === 409) return "received"; // complete, and promised
  if (![204, 404, 410].includes(status)) return "unknown";
  if (status === 204 && !item.cameWhole) return "ended";
  for (const lateMs of item.cameWhole ? LATE_MS : [0]) {
    await pause(lateMs);
    const received = await isReceived(item.fileId);
    if (received !== false) return received ? "received" : "unknown";
  }
  return "ended";
}

function ask(url, { method = "GET", headers = {} }) {
  return fetch(url, { method, headers: { "Tus-Resumable": "1.0.0", ...headers }, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
}

/** As tus-js-client writes it: the server takes a creation for the same one only if this is the same. */
function encoded(metadata) {
  const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
  return Object.entries(metadata).map(([key, value]) => `${key} ${base64(value)}`).join(",");
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
