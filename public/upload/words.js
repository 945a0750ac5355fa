// What a row says of its file, in words. Figures are of bytes sent; where nothing is under way, of bytes the server has acknowledged.
import { formatBytes, formatDuration, formatTime } from "../format.js";

const SLOWEST_TOLD = 1; // bytes a second; below it nothing moves

/** Its state in a few words, as they are shown and spoken. */
export function stateOf(item) {
  switch (item.state) {
    case "waiting": return "Waiting its turn";
    case "sending": return item.sentBytes < item.sizeBytes ? "Sending" : "All sent, waiting for the receipt";
    case "paused": return item.file ? "Paused" : "Not finished";
    case "offline": return "Interrupted, goes on by itself";
    case "cancelling": return "Cancelling";
    case "refused": return "Not sent";
    case "broken": return "Sending failed";
    case "received": return "Received, waiting its turn to be stored";
    case "settling": return "Received, being stored";
    case "stored": return "Stored";
    case "failed": return "Received, but not stored";
    default: return "";
  }
}

/** The figures behind it. */
export function factsOf(item) {
  if (item.sizeBytes === null) return [];
  const size = formatBytes(item.sizeBytes);
  switch (item.state) {
    case "sending": {
      const perSecond = item.speed.perSecond();
      return [`${formatBytes(item.sentBytes)} of ${size}`, ...(item.sentBytes < item.sizeBytes ? speedOf(perSecond, item.sizeBytes - item.sentBytes) : [])];
    }
    case "paused":
    case "offline": return [item.acknowledgedBytes > 0 ? `${formatBytes(item.acknowledgedBytes)} of ${size} are there` : size];
    default: return [size];
  }
}

/** "3.1 MiB/s", "22 s left"; nothing while it is too early to say. */
export function speedOf(perSecond, bytesLeft) {
  if (perSecond === null) return [];
  if (perSecond < SLOWEST_TOLD) return ["nothing moves"];
  return [`${formatBytes(Math.round(perSecond))}/s`, `${formatDuration(Math.max(1, Math.ceil(bytesLeft / perSecond)))} left`];
}

/** Why it is not going its way, and what to do. */
export function troubleTextOf(item) {
  if (item.state === "failed") return item.status.reason ?? "The worker did not say why.";
  if (item.state === "paused" && !item.file) return "Choose the same file again, and it goes on from there. Browsers do not keep files over a reload.";
  return item.trouble;
}

export function storedAfter(status) {
  return `${formatDuration((new Date(status.stored_at) - new Date(status.accepted_at)) / 1000)} after it was received`;
}

export { formatTime };

/** What is spoken when a file comes into a state; undefined: nothing. */
export function newsOf(item) {
  return {
    removed: item.isCancelled ? "cancelled" : undefined,
    paused: item.file ? "paused" : undefined, offline: "interrupted, goes on by itself", refused: "not sent", broken: "sending failed",
    received: item.trouble === "" ? "received" : "too late to cancel, it is received", stored: "stored", failed: "received, but not stored",
  }[item.state];
}
