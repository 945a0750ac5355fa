import { AbortMultipartUploadCommand, ListMultipartUploadsCommand, ListPartsCommand } from "@aws-sdk/client-s3";
import { createTurns } from "../core/turns.ts";
import { STATUS, statusOf, type Requests } from "./s3-requests.ts";

const UPLOADS_A_PAGE = 1_000; // S3's limit
const ABORTS_AT_ONCE = 8;

interface Unfinished {
  key: string;
  uploadId: string | undefined;
  startedAt: Date;
}

/** Where the next page of the listing begins. */
interface Place {
  KeyMarker?: string;
  UploadIdMarker?: string | undefined;
}

/** Ends multipart uploads that nobody goes on with: their parts are in no listing of objects, and paid for all the same. */
export function createSweep(
  { bucket, prefix, requests, uploadsAPage = UPLOADS_A_PAGE }: { bucket: string; prefix: string; requests: Requests; uploadsAPage?: number },
) {
  const { answer, s3 } = requests;
  const inTurn = createTurns(ABORTS_AT_ONCE);

  /**
   * What began under the prefix, and got its last part, before `olderThanMs`; another store's whose prefix begins with
   * this one as well, which does no harm. A server that cannot list uploads (MinIO lists those of a whole key only, and
   * ends old ones by itself) has nothing to sweep.
   */
  async function sweep(olderThanMs: number, stopping?: AbortSignal): Promise<number> {
    const before = new Date(Date.now() - olderThanMs);
    let aborted = 0;
    for await (const page of unfinished(before)) {
      const done = await Promise.all(page.map((upload) => inTurn(async () => {
        stopping?.throwIfAborted();
        return s3(async () => !(await isInUse(upload, before)) && abort(upload));
      })));
      aborted += done.filter(Boolean).length;
    }
    return aborted;
  }

  async function* unfinished(before: Date): AsyncGenerator<Unfinished[]> {
    for (let after: Place | undefined = {}; after; ) {
      const page = await listPage(after);
      yield page.uploads.filter(({ startedAt }) => startedAt < before);
      after = page.next;
    }
  }

  async function listPage(after: Place): Promise<{ uploads: Unfinished[]; next: Place | undefined }> {
    // Without encoding-type=url: Ceph (seen: 18.2) then encodes the keys, but neither the markers nor what says that it did.
    const input = { Bucket: bucket, Prefix: prefix, MaxUploads: uploadsAPage, ...after };
    const page = await s3(() => answer((client, options) => client.send(new ListMultipartUploadsCommand(input), options)).catch((error: unknown) => {
      if (statusOf(error) === STATUS.NOT_IMPLEMENTED) return undefined;
      throw error;
    }));
    const uploads = (page?.Uploads ?? []).map(({ Key = "", UploadId, Initiated }) =>
      ({ key: Key, uploadId: UploadId, startedAt: Initiated ?? new Date() }));
    const next = page?.IsTruncated && page.NextKeyMarker ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker } : undefined;
    return { uploads, next };
  }

  /** A large file on a slow line may take days: what counts is when its last part came. */
  async function isInUse({ key, uploadId }: Unfinished, before: Date): Promise<boolean> {
    let after: string | undefined;
    do {
      const input = { Bucket: bucket, Key: key, UploadId: uploadId, PartNumberMarker: after };
      const page = await answer((client, options) => client.send(new ListPartsCommand(input), options)).catch(unlessGone);
      if (page?.Parts?.some(({ LastModified }) => LastModified && LastModified >= before)) return true;
      after = page?.IsTruncated ? page.NextPartNumberMarker : undefined;
    } while (after);
    return false;
  }

  async function abort({ key, uploadId }: Unfinished): Promise<boolean> {
    const input = { Bucket: bucket, Key: key, UploadId: uploadId };
    return (await answer((client, options) => client.send(new AbortMultipartUploadCommand(input), options)).catch(unlessGone)) !== undefined;
  }

  return sweep;
}

/** Completed or aborted by another process in the meantime. */
function unlessGone(error: unknown): undefined {
  if (statusOf(error) !== STATUS.NOT_FOUND) throw error;
}
