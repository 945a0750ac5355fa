import { Failure } from "../../core/errors.ts";
import { passGarbage } from "../../core/garbage.ts";
import { SNIFFED_BYTES, sniffType, type Measure } from "../../objects/measure.ts";
import { checkFileType } from "../file-types.ts";
import type { Inbox } from "../inbox.ts";
import type { PartialUpload } from "./partial-record.ts";
import { incarnationOf, type PartialUploads } from "./partial-uploads.ts";
import type { PieceIntake } from "./piece-intake.ts";
import type { RunningHashes } from "./running-hashes.ts";
import { createChecksum, readMetadata, type Checksum } from "./tus-headers.ts";

/** Writes what a request brings to a resumable upload, piece by piece, each durable before the next is begun. */
export function createPieceWriter({ inbox, partials, hashes, allowedTypes }: {
  inbox: Inbox;
  partials: PartialUploads;
  hashes: RunningHashes;
  allowedTypes: readonly string[];
}) {
  /**
   * @param from  where the upload stands, bytes
   * @param mostPieces  that it may still come in
   * @throws Failure OFFSET_MISMATCH when another request was first, CHECKSUM_MISMATCH, FILE_TYPE_NOT_ALLOWED, TOO_MANY_PIECES, and
   * what the intake throws: nothing of that piece is kept then; Unavailable
   */
  async function write(partial: PartialUpload, intake: PieceIntake, from: number, { mostPieces, checksum }: { mostPieces: number; checksum: Checksum | undefined }): Promise<void> {
    const id = incarnationOf(partial);
    const sum = checksum && createChecksum(checksum);
    const measure = hashes.resume(id, from);
    let at = from;
    for (let pieces = 0; await intake.hasMore(); pieces++) {
      if (pieces >= mostPieces) throw new Failure("TOO_MANY_PIECES");
      let piece = measured(intake.piece({ whole: sum !== undefined }), measure);
      if (sum) piece = checked(piece, sum);
      if (at === 0 && allowedTypes.length > 0) piece = ofAllowedType(piece, partial);
      at += await keep(partial, at, piece);
    }
    if (at === from && sum && intake.ending() === "ended" && !sum.matches()) throw new Failure("CHECKSUM_MISMATCH");
    hashes.keep(id, measure);
  }

  /** Bytes first, then what makes them count. What has no record is swept, or goes with the upload. */
  async function keep(partial: PartialUpload, at: number, piece: AsyncIterable<Buffer>): Promise<number> {
    const blobKey = partials.newBlobKey(partial);
    const { sizeBytes } = await inbox.store.put(blobKey, piece);
    if (!(await partials.addPiece(partial, at, blobKey, sizeBytes))) {
      await inbox.discard({ blobKey });
      throw new Failure("OFFSET_MISMATCH");
    }
    const now = await partials.find(partial.upload_id);
    if (now?.nonce === partial.nonce && now.state === "open") return sizeBytes;
    await partials.takeBack(partial, at, blobKey); // another process made a file of it, or ended it, and took the pieces before away
    throw new Failure(now?.nonce === partial.nonce && now.state !== "ended" ? "OFFSET_MISMATCH" : "UPLOAD_NOT_FOUND");
  }

  /** Refuses at the first bytes, not after gigabytes; with fewer of them the finished upload is looked at. */
  async function* ofAllowedType(chunks: AsyncIterable<Buffer>, partial: PartialUpload): AsyncGenerator<Buffer> {
    if (partial.concat) return yield* chunks; // a part may begin anywhere
    const { declaredType } = readMetadata(partial.metadata);
    let held: Buffer[] | undefined = [];
    let heldBytes = 0;
    for await (const chunk of chunks) {
      if (!held) {
        yield chunk;
        continue;
      }
      held.push(chunk);
      heldBytes += chunk.length;
      if (heldBytes < SNIFFED_BYTES) continue;
      const head = Buffer.concat(held);
      checkFileType(allowedTypes, await sniffType(head), declaredType, head);
      held = undefined;
      yield head;
    }
    if (held && heldBytes > 0) yield Buffer.concat(held);
  }

  return { write };
}

async function* measured(chunks: AsyncIterable<Buffer>, measure: Measure | undefined): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    if (measure) measure.update(chunk);
    else passGarbage(chunk.length);
    yield chunk;
  }
}

async function* checked(chunks: AsyncIterable<Buffer>, sum: ReturnType<typeof createChecksum>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    sum.update(chunk);
    yield chunk;
  }
  if (!sum.matches()) throw new Failure("CHECKSUM_MISMATCH");
}
