/** Why an upload failed and what helps, in words for a person. docs/operations.md says the same to whoever runs the server. */
export interface Advice {
  why: string;
  whatToDo: string;
  /** A retry can help, as things are. */
  retryHelps: boolean;
}

const ADVICE: Record<string, Advice> = {
  INBOX_ENTRY_MISSING: {
    why: "The worker did not find it in the inbox.",
    whatToDo: "Web and worker may look into different inboxes: set that right, then retry. Else the sender has to hand the file in again.",
    retryHelps: true,
  },
  INBOX_BLOB_MISSING: {
    why: "Its bytes were removed from the inbox.",
    whatToDo: "Ask the sender to hand the file in again. Where they use the same Idempotency-Key, that mends this one; else discard it then.",
    retryHelps: true,
  },
  INBOX_RECORD_DAMAGED: {
    why: "What the inbox kept of it cannot be read any more.",
    whatToDo: "Have the disk looked at, and ask the sender to hand the file in again. Where they use the same Idempotency-Key, that mends this one; else discard it then.",
    retryHelps: false,
  },
  INBOX_BYTES_DAMAGED: {
    why: "Its bytes were damaged while they waited.",
    whatToDo: "Have the disk looked at, and ask the sender to hand the file in again. Where they use the same Idempotency-Key, that mends this one; else discard it then.",
    retryHelps: true,
  },
  IDEMPOTENCY_KEY_REUSED: {
    why: "Another file was stored under the same Idempotency-Key.",
    whatToDo: "Ask the sender to hand it in under a key of its own, then discard this one. The other file is not touched.",
    retryHelps: false,
  },
  SETTLE_FAILED: {
    why: "The database or the storage refused it.",
    whatToDo: "The details say what was wrong. When that is mended, retry.",
    retryHelps: true,
  },
};

/** @param code  of a dead letter; an unknown one is as good as SETTLE_FAILED */
export function adviceFor(code: string): Advice {
  return ADVICE[code] ?? ADVICE.SETTLE_FAILED!;
}

export const ADVISED_CODES = Object.keys(ADVICE);
