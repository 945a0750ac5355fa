/** What lies in an inbox, by how its keys begin. */
export const MANIFESTS = "manifests/";
/** Bytes of large uploads, and pieces of resumable ones. */
export const BLOBS = "blobs/";
/** Records of resumable uploads: see partial-uploads.ts. */
export const PARTIALS = "partials/";
