import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { blocksAround, checkedBlocks, createBlockSums } from "../../src/objects/block-sums.ts";
import { Damaged } from "../../src/objects/object-store.ts";
import { inPieces } from "./bytes.ts";

const MIB = 1024 ** 2;
const bytes = randomBytes(3 * MIB + 17);
const sums = (() => {
  const taken = createBlockSums();
  for (let at = 0; at < bytes.length; at += 65_537) taken.update(bytes.subarray(at, at + 65_537));
  return taken.sums();
})();

async function part(of: Uint8Array, start: number, end: number): Promise<Buffer> {
  const around = blocksAround({ start, end }, bytes.length);
  const chunks: Uint8Array[] = [];
  for await (const chunk of checkedBlocks(inPieces(of.subarray(around.start, around.end + 1), 100_003), sums, around, { start, end })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const LAST = bytes.length - 1;
const PARTS = [[0, 0], [0, LAST], [5, MIB - 1], [MIB, MIB], [MIB - 1, MIB], [2 * MIB + 3, LAST], [LAST, LAST], [3 * MIB, LAST]] as const;

test.each(PARTS)("the bytes from %i to %i come, and no others", async (start, end) => {
  expect((await part(bytes, start, end)).equals(bytes.subarray(start, end + 1))).toBe(true);
});

test.each(PARTS)("of those from %i to %i not one comes of a block with a flipped bit", async (start, end) => {
  for (const at of [start, end, start - (start % MIB)]) {
    const rotten = Buffer.from(bytes);
    rotten[at]! ^= 4;
    await expect(part(rotten, start, end)).rejects.toThrow(Damaged);
  }
});

test("a part that ends too early is damage", async () => {
  const around = blocksAround({ start: 10, end: MIB + 10 }, bytes.length);
  const short = async () => {
    for await (const _ of checkedBlocks(inPieces(bytes.subarray(0, MIB + 5), 50_000), sums, around, { start: 10, end: MIB + 10 }));
  };
  await expect(short()).rejects.toThrow(Damaged);
});
