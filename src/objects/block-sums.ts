import { crc32 } from "node:zlib";
import { Damaged } from "./object-store.ts";

/** Of what a part of an object is checked by: so much is read in vain at both ends of a part, at the most. */
const BLOCK_BYTES = 1024 * 1024;

/** A CRC-32 for each block of an object whose SHA-256 was found right. They tell of the right bytes, so they hold for ever. */
export type BlockSums = Uint32Array;

/** Takes the sums as the bytes pass; CRC-32 costs a fraction of SHA-256. */
export function createBlockSums() {
  const sums: number[] = [];
  let sum = 0;
  let filled = 0;
  return {
    update(chunk: Uint8Array): void {
      for (let at = 0; at < chunk.length; ) {
        const part = chunk.subarray(at, at + BLOCK_BYTES - filled);
        sum = crc32(part, sum);
        filled += part.length;
        at += part.length;
        if (filled < BLOCK_BYTES) continue;
        sums.push(sum);
        [sum, filled] = [0, 0];
      }
    },
    sums: (): BlockSums => Uint32Array.from(filled > 0 ? [...sums, sum] : sums),
  };
}

/** The bytes to be read so that those from `start` to `end`, both included, can be checked: whole blocks. */
export function blocksAround({ start, end }: { start: number; end: number }, sizeBytes: number): { start: number; end: number } {
  return { start: start - (start % BLOCK_BYTES), end: Math.min(sizeBytes, (Math.floor(end / BLOCK_BYTES) + 1) * BLOCK_BYTES) - 1 };
}

/**
 * Of whole blocks as they come, those bytes that are asked for, each block only after its sum has proved right.
 * @param around  as blocksAround has it: where `source` begins and ends
 * @throws Damaged before the first byte of a block that is not right
 */
export async function* checkedBlocks(
  source: AsyncIterable<Uint8Array>, sums: BlockSums, around: { start: number; end: number }, { start, end }: { start: number; end: number },
): AsyncGenerator<Uint8Array, undefined> {
  let at = around.start; // of the block that is being gathered
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  const blockEnd = () => Math.min(around.end + 1, at - (at % BLOCK_BYTES) + BLOCK_BYTES);
  for await (const chunk of source) {
    for (let taken = 0; taken < chunk.length; ) {
      const part = chunk.subarray(taken, taken + blockEnd() - at - gatheredBytes);
      if (part.length === 0) throw new Damaged("size", "it has more bytes than it should");
      gathered.push(part);
      gatheredBytes += part.length;
      taken += part.length;
      if (at + gatheredBytes < blockEnd()) continue;
      const sum = gathered.reduce((before, bytes) => crc32(bytes, before), 0);
      if (sum !== sums[Math.floor(at / BLOCK_BYTES)]) throw new Damaged("hash", `its bytes from ${at} on are not those that were stored`);
      for (const bytes of gathered) {
        const wanted = bytes.subarray(Math.max(0, start - at), Math.max(0, end + 1 - at));
        if (wanted.length > 0) yield wanted;
        at += bytes.length;
      }
      [gathered, gatheredBytes] = [[], 0];
    }
  }
  if (at !== around.end + 1) throw new Damaged("size", "it has fewer bytes than it should");
}
