import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { blocksAround, checkedBlocks, createBlockSums, type BlockSums } from "./block-sums.ts";
import { checkedStream, readableOf, WHOLE_BYTES } from "./checked-stream.ts";
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
  /** How many objects it remembers of. */
  mostRemembered?: number;
  /** How long `lately` is. */
  rememberMs?: number;
}

export type Verifier = ReturnType<typeof createVerifier>;

const MOST_BLOCKS = 2_000_000; // of all that is remembered: sums of 2 TB take 8 MB

/** Compares stored objects with what they have to be. It only looks: what follows from it is others' concern. */
export function createVerifier({ store, mostRemembered = 8_192, rememberMs = 3_600_000 }: VerifierSettings) {
  const readAt = new Map<string, number>(); // by key, when it was last found good; the oldest first
  const sumsOf = new Map<string, BlockSums>(); // by content, of large objects; the oldest first
  let blocks = 0;
  const underWay = new Map<string, Promise<Verdict>>();

  /**
   * Good, or what is wrong. Reads the object; who asks while it is being read waits for that reading.
   * @param lately  it will do to have read it within `rememberMs`: only for those who go through all objects again and
   *   again, never where good bytes are given away for it
   * @param pace  a slow reading, which nobody else waits for
   * @throws Unavailable when the store cannot be asked
   */
  async function verify(expected: Expected, { lately = false, pace }: { lately?: boolean; pace?: Pace | undefined } = {}): Promise<Verdict> {
    if (lately && (readAt.get(expected.key) ?? Number.NEGATIVE_INFINITY) > performance.now() - rememberMs) return { good: true };
    if (pace) return look(expected, pace);
    const id = `${contentOf(expected)} ${expected.key}`;
    const reading = underWay.get(id) ?? look(expected, undefined).finally(() => underWay.delete(id));
    underWay.set(id, reading);
    return reading;
  }

  async function look(expected: Expected, pace: Pace | undefined): Promise<Verdict> {
    try {
      await readAll(expected, pace);
      readAt.delete(expected.key);
      readAt.set(expected.key, performance.now());
      if (readAt.size > mostRemembered) readAt.delete(readAt.keys().next().value!);
      return { good: true };
    } catch (error) {
      if (!(error instanceof Damaged)) throw error;
      readAt.delete(expected.key);
      return { good: false, problem: error.problem, reason: error.message };
    }
  }

  async function readAll(expected: Expected, pace: Pace | undefined): Promise<void> {
    const { key, sizeBytes, sha256 } = expected;
    if (sizeBytes <= WHOLE_BYTES) {
      await pace?.(sizeBytes);
      const bytes = await store.readWhole(key); // a stream costs more than such an object's hash
      if (!bytes) throw await missing();
      assertSize(bytes.length, sizeBytes);
      return assertHash(sha256Of(bytes), sha256);
    }
    const stream = await openAll(key, sizeBytes);
    const hash = createHash("sha256");
    const sums = createBlockSums();
    let readBytes = 0;
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      await pace?.(chunk.length);
      hash.update(chunk);
      sums.update(chunk);
      readBytes += chunk.length;
    }
    assertSize(readBytes, sizeBytes);
    assertHash(hash.digest("hex"), sha256);
    remember(contentOf(expected), sums.sums());
  }

  /**
   * The bytes for somebody who takes them for good. Whole: checked as they pass (see checkedStream). In part: by blocks,
   * whose sums are taken when the object is first asked for in part, by reading all of it; a small object always whole.
   * @throws Damaged, Unavailable; the stream too
   */
  async function open(expected: Expected, range?: ByteRange): Promise<Readable> {
    const { key, sizeBytes } = expected;
    if (!range) return checkedStream(await openAll(key, sizeBytes), expected);
    const part = { start: range.start, end: Math.min(range.end ?? sizeBytes - 1, sizeBytes - 1) };
    if (sizeBytes <= WHOLE_BYTES) {
      const bytes = Buffer.concat((await (await checkedStream(await openAll(key, sizeBytes), expected)).toArray()) as Uint8Array[]);
      return Readable.from([bytes.subarray(part.start, part.end + 1)]);
    }
    const sums = await sumsFor(expected);
    const around = blocksAround(part, sizeBytes);
    const found = await store.read(key, around);
    if (!found) throw await missing();
    if (found.sizeBytes !== sizeBytes) found.stream.destroy();
    assertSize(found.sizeBytes, sizeBytes);
    return readableOf(checkedBlocks(found.stream, sums, around, part), found.stream);
  }

  async function sumsFor(expected: Expected): Promise<BlockSums> {
    const known = sumsOf.get(contentOf(expected));
    if (known) return known;
    const verdict = await verify(expected);
    if (!verdict.good) throw new Damaged(verdict.problem, verdict.reason);
    return sumsOf.get(contentOf(expected)) ?? sumsFor(expected); // forgotten for others in this very moment: again
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

  function remember(content: string, sums: BlockSums): void {
    blocks += sums.length - (sumsOf.get(content)?.length ?? 0);
    sumsOf.delete(content);
    sumsOf.set(content, sums);
    while (sumsOf.size > 1 && (sumsOf.size > mostRemembered || blocks > MOST_BLOCKS)) {
      const [oldest, forgotten] = sumsOf.entries().next().value!;
      sumsOf.delete(oldest);
      blocks -= forgotten.length;
    }
  }

  return { verify, open };
}

function assertSize(foundBytes: number, expectedBytes: number): void {
  if (foundBytes !== expectedBytes) throw new Damaged("size", `it has ${foundBytes} bytes instead of ${expectedBytes}`);
}

function assertHash(found: string, expected: string): void {
  if (found !== expected) throw new Damaged("hash", `its bytes have the sha256 ${found}`);
}

function contentOf({ sha256, sizeBytes }: Expected): string {
  return `${sha256} ${sizeBytes}`;
}
