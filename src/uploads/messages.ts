import { z } from "zod";
import { readJson } from "../core/read-json.ts";

export const UNKNOWN_ACCEPTOR = "unknown";
/** In the acceptor's place where a manifest took that of one that cannot be read: who counted the upload first is not known. */
export const REPLACED = "replaced";

/**
 * What is known of an upload from the moment it is acknowledged: the inbox keeps it beside the bytes, the stream
 * carries it to the worker. `event_time` is fixed at acceptance. `blob_key` is null where the bytes are in the
 * manifest's own record.
 */
export const Manifest = z.object({
  upload_id: z.uuid(),
  owner_id: z.uuid(),
  filename: z.string(),
  size_bytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  content_type: z.string(),
  uploader_id: z.string().nullable(),
  event_time: z.iso.datetime(),
  blob_key: z.string().regex(/^blobs\/[\w-]{1,200}$/).nullable(),
  /** The start of a web process that acknowledged it; for the audit. Manifests of before the audit do not say. */
  accepted_by: z.string().default(UNKNOWN_ACCEPTOR),
});

export type Manifest = z.infer<typeof Manifest>;

/** Undefined: the text is no manifest. */
export function readManifest(text: string): Manifest | undefined {
  return readJson(Manifest, text);
}

/** The stream, under the prefix of this installation. */
export const UPLOADS_STREAM = "uploads";
export const UPLOADS_GROUP = "settlers";
