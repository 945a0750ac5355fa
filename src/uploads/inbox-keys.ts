/** What lies in an inbox, by how its keys begin. */
export const MANIFESTS = "manifests/";
/** Bytes of large uploads, and those that came to resumable ones. */
export const BLOBS = "blobs/";
/** Of resumable uploads, see partial-uploads.ts: what each is, and what has come of it. */
export const PARTIALS = "partials/";
export const PIECES = "pieces/";
/** Analytics events that wait while Redis does not take them; no uploads, but of the same store. */
export const EVENTS = "events/";
