// What the server would refuse, told before a byte is sent. The server decides; these are its own limits, from the page.
import { formatBytes } from "../format.js";

const MOST_SENDER_CHARACTERS = 128;

export function createRules({ mostBytes, allowedTypes }) {
  const listed = (type) => allowedTypes.some((pattern) => pattern === type || (pattern.endsWith("/*") && type.startsWith(pattern.slice(0, -1))));

  /** @returns why the file cannot be handed in and whether trying is worth it all the same; undefined: nothing is wrong */
  return function refusalOf(file) {
    if (file.size === 0) return { sentence: "The file is empty: zero bytes are not accepted." };
    if (file.size > mostBytes) return { sentence: `Too large: it has ${formatBytes(file.size)}, the limit is ${formatBytes(mostBytes)}.` };
    // Browsers judge by the name's ending, the server by the bytes: it may know better, so the person can have it try.
    if (allowedTypes.length > 0 && file.type !== "" && !listed(file.type)) {
      return { sentence: `By its name it is ${file.type}. Accepted here: ${allowedTypes.join(", ")}.`, mayTry: true };
    }
    return undefined;
  };
}

/** Why what stands in the field "From" cannot be a sender; undefined: it can. */
export function senderFault(sender) {
  const tooMany = [...sender].length - MOST_SENDER_CHARACTERS;
  if (tooMany > 0) return `That is ${tooMany} ${tooMany === 1 ? "character" : "characters"} too many: ${MOST_SENDER_CHARACTERS} at most.`;
  if (/\p{Cc}/u.test(sender)) return "It contains a control character. Please type it anew.";
  return undefined;
}
