import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { checkedStream, WHOLE_BYTES } from "./checked-stream.ts";
import { sha256Of } from "./measure.ts";
import { Damaged, type ByteRange, type ObjectStore, type Problem } from "./object-store.ts";

/** What an object has to be. `sha256` is hexadecimal. */
export interface Expected {
  key: string;
  sizeBytes: number;
  sha256: string;
}

export type Verdict = { good: true } | { good: false; problem: Problem; reason: string };

/** Waits until so many bytes may be read; what it throws ends the reading. */
export type Pace = (sizeBytes: number) => Promise<void>;

export interface VerifierSettings {
  store: ObjectStore;
  /** How many objects it remembers as good. */
  mostRemembered?: number;
  /** For how long. An object that rots within this time is still taken for good where only this memory is asked. */
  rememberMs?: number;
}

export type Verifier = ReturnType<typeof createVerifier>;

/** Compares stored objects with what they have to be. It only looks: what follows from it is others' concern. */
export function createVerifier({ store, mostRemembered = 8_192, rememberMs = 3_600_000 }: VerifierSettings) {
  const remembered = new Map<string, { sizeBytes: number; modifiedAt: number; sha256: string; until: number }>(); // the oldest first
  const underWay = new Map<string, Promise<Verdict>>();

  /**
   * Good, or what is wrong. Reads the object once, unless it was found good lately and not written since; who asks while
   * it is being read waits for that reading.
   * @param fresh  reads it in any case
   * @param pace  a slow reading, which nobody else waits for
   * @throws Unavailable when the store cannot be asked
   */
  async function verify(expected: Expected, { fresh = false, pace }: { fresh?: boolean; pace?: Pace | undefined } = {}): Promise<Verdict> {
    if (fresh || pace) return look(expected, fresh, pace);
    const { key, sizeBytes, sha256 } = expected;
    const id = `${sha256} ${sizeBytes} ${key}`;
    const reading = underWay.get(id) ?? look(expected, false, undefined).finally(() => underWay.delete(id));
    underWay.set(id, reading);
    return reading;
  }

  async function look(expected: Expected, fresh: boolean, pace: Pace | undefined): Promise<Verdict> {
    const { key, sizeBytes, sha256 } = expected;
    try {
      const info = await store.head(key);
      if (!info) throw await missing();
      assertSize(info.sizeBytes, sizeBytes);
      const modifiedAt = info.modifiedAt.getTime();
      const known = remembered.get(key);
      if (!fresh && known && known.modifiedAt === modifiedAt && known.sizeBytes === sizeBytes && known.sha256 === sha256 && known.until > Date.now()) {
        return { good: true };
      }
      await readAll(expected, pace);
      remember(key, { sizeBytes, modifiedAt, sha256, until: Date.now() + rememberMs });
      return { good: true };
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      remembered.delete(key);
      return { good: false, problem: error.problem, reason: error.message };
    }
  }

  async function readAll({ key, sizeBytes, sha256 }: Expected, pace: Pace | undefined): Promise<void> {
    if (sizeBytes <= WHOLE_BYTES) {
      await pace?.(sizeBytes);
      const bytes = await store.readWhole(key); // a stream costs more than such an object's hash
      if (!bytes) throw await missing();
      assertSize(bytes.length, sizeBytes);
      return assertHash(sha256Of(bytes), sha256);
    }
    const stream = await openAll(key, sizeBytes);
    const hash = createHash("sha256");
    let readBytes = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      await pace?.(chunk.length);
      hash.update(chunk);
      readBytes += chunk.length;
    }
    assertSize(readBytes, sizeBytes);
    assertHash(hash.digest("hex"), sha256);
  }

  /**
   * The bytes for somebody who takes them for good. Whole: checked as they pass (see checkedStream). In part: the whole is
   * verified first, unless it was lately; a small object always.
   * @throws Damaged, Unavailable; the stream too
   */
  async function open(expected: Expected, range?: ByteRange): Promise<Readable> {
    const { key, sizeBytes } = expected;
    if (!range) return checkedStream(await openAll(key, sizeBytes), expected);
    if (sizeBytes <= WHOLE_BYTES) {
      const bytes = Buffer.concat((await (await checkedStream(await openAll(key, sizeBytes), expected)).toArray()) as Uint8Array[]);
      return Readable.from([bytes.subarray(range.start, (range.end ?? sizeBytes - 1) + 1)]);
    }
    const verdict = await verify(expected);
    if (!verdict.good) throw new Damaged(verdict.problem, verdict.reason);
    const found = await store.read(key, range);
    if (!found) throw await missing();
    return found.stream;
  }

  async function openAll(key: string, sizeBytes: number): Promise<Readable> {
    const found = await store.read(key);
    if (!found) throw await missing();
    if (found.sizeBytes !== sizeBytes) found.stream.destroy();
    assertSize(found.sizeBytes, sizeBytes);
    return found.stream;
  }

  /** A store that lost its disk or bucket has none of its objects: that is not this object's damage. */
  async function missing(): Promise<Damaged> {
    await store.ping();
    return new Damaged("missing", "there is no such object in storage");
  }

  function remember(key: string, found: { sizeBytes: number; modifiedAt: number; sha256: string; until: number }): void {
    remembered.delete(key);
    remembered.set(key, found);
    if (remembered.size > mostRemembered) remembered.delete(remembered.keys().next().value!);
  }

  return { verify, open, forget: (key: string) => void remembered.delete(key) };
}

function assertSize(foundBytes: number, expectedBytes: number): void {
  if (foundBytes !== expectedBytes) throw new Damaged("size", `it has ${foundBytes} bytes instead of ${expectedBytes}`);
}

function assertHash(found: string, expected: string): void {
  if (found !== expected) throw new Damaged("hash", `its bytes have the sha256 ${found}`);
}
