import { Failure, TICKS, Unavailable, unlessUnavailable, type Manifest, type Sha, type Steps, type World } from "./world.ts";

/** The web's part: src/uploads/accept.ts and inbox.ts, a round trip a step. */

export interface Upload {
  /** The id that belongs to the Idempotency-Key; undefined: a new one each time. */
  derivedId: string | undefined;
  sha: Sha;
  large: boolean;
}

export type Answer = { status: 202; id: string; sha: Sha; acceptance: number } | { status: 422; id: string } | { status: 503 };

const HEALED_BY_BYTES = new Set(["INBOX_BYTES_DAMAGED", "INBOX_BLOB_MISSING", "INBOX_ENTRY_MISSING"]);

interface Received {
  blobKey: string | null;
  content: string;
  at: number;
}

export function* handle(world: World, upload: Upload, blobKey: string): Steps<Answer> {
  try {
    return yield* accept(world, upload, blobKey);
  } catch (error) {
    if (error instanceof Failure) return { status: 422, id: upload.derivedId! };
    return unlessUnavailable(error, { status: 503 });
  }
}

function* accept(world: World, upload: Upload, blobKey: string): Steps<Answer> {
  const received = yield* receive(world, upload, blobKey);
  try {
    yield "bytes-received";
    return yield* upload.derivedId === undefined ? acceptOnce(world, upload, received) : acceptUnderKey(world, upload, upload.derivedId, received);
  } catch (error) {
    if (error instanceof Failure) yield* discard(world, received);
    throw error;
  }
}

function* receive(world: World, { sha, large }: Upload, blobKey: string): Steps<Received> {
  const content = sha === "damaged" ? "something else" : sha;
  if (!large) return { blobKey: null, content, at: world.now };
  if (!world.protocol.blobBeforeManifest) return { blobKey, content, at: world.now };
  yield* world.call("inbox", () => world.inbox.files.set(blobKey, world.now));
  yield "file-written";
  yield* writeBlob(world, { blobKey, content });
  return { blobKey, content, at: world.now };
}

function* writeBlob(world: World, { blobKey, content }: Pick<Received, "blobKey" | "content">): Steps<void> {
  yield* world.call("inbox", () => {
    const swept = world.protocol.blobBeforeManifest && !world.inbox.files.has(blobKey!);
    if (swept && world.protocol.oldBytesNotPromised) throw new Unavailable("inbox", { cause: "the file was swept" });
    world.inbox.files.delete(blobKey!);
    world.inbox.blobs.set(blobKey!, { content: swept ? undefined : content, at: world.now });
  });
}

function* discard(world: World, { blobKey }: Received): Steps<void> {
  if (blobKey === null) return;
  try {
    yield* world.call("inbox", () => void world.inbox.blobs.delete(blobKey));
  } catch (error) {
    unlessUnavailable(error, undefined);
  }
}

function* acceptOnce(world: World, upload: Upload, received: Received): Steps<Answer> {
  const { manifest } = yield* commit(world, world.newName("once-"), upload, received);
  yield* enqueue(world, manifest);
  return { status: 202, id: manifest.id, sha: manifest.sha, acceptance: manifest.acceptance };
}

function* acceptUnderKey(world: World, upload: Upload, id: string, received: Received): Steps<Answer> {
  let known: { sha: Sha | undefined; acceptance: number | undefined; dead: boolean } = { sha: undefined, acceptance: undefined, dead: false };
  try {
    known = yield* world.call("postgres", () => ({ sha: world.files.get(id), acceptance: world.settled.get(id), dead: world.dead.has(id) }));
  } catch (error) {
    unlessUnavailable(error, undefined);
  }
  if (known.sha) {
    replay(world, known.sha, upload);
    yield* discard(world, received);
    return { status: 202, id, sha: known.sha, acceptance: known.acceptance! };
  }
  const healed = known.dead ? yield* heal(world, id, upload, received) : undefined;
  if (healed) {
    yield* enqueueOnce(world, healed, true);
    return { status: 202, id, sha: healed.sha, acceptance: healed.acceptance };
  }
  const { created, manifest } = yield* commit(world, id, upload, received);
  if (!created) {
    replay(world, manifest.sha, upload);
    if (manifest.blobKey !== received.blobKey) yield* discard(world, received);
  }
  yield* enqueueOnce(world, manifest, created);
  return { status: 202, id, sha: manifest.sha, acceptance: manifest.acceptance };
}

function replay(world: World, first: Sha, { sha }: Upload): void {
  if (first !== sha && world.protocol.sameKeySameBytes) throw new Failure("IDEMPOTENCY_KEY_REUSED");
}

function* commit(world: World, id: string, upload: Upload, received: Received): Steps<{ created: boolean; manifest: Manifest }> {
  const manifest: Manifest = { id, sha: upload.sha, blobKey: received.blobKey, content: received.content, at: world.now, acceptance: world.newAcceptance() };
  if (!world.protocol.promisedWhenDurable) return { created: true, manifest };
  for (;;) {
    const stored = yield* world.call("inbox", () => {
      // In the code the look at the clock comes before the write; the model takes the two for one step, because
      // standing still for half of ORPHAN_AGE_SECONDS between them is what this protocol does not survive.
      const old = received.blobKey !== null && world.now - received.at > TICKS.orphanAge / 2;
      if (old && world.protocol.oldBytesNotPromised) throw new Unavailable("inbox", { cause: "the bytes are too old" });
      if (world.inbox.manifests.has(id) && world.protocol.manifestOnce) return false;
      world.inbox.manifests.set(id, manifest);
      world.committed.add(`${id} ${upload.sha}`);
      return true;
    });
    if (stored) {
      if (!world.protocol.blobBeforeManifest && received.blobKey !== null) yield* writeBlob(world, received);
      return { created: true, manifest };
    }
    const existing = yield* world.call("inbox", () => world.inbox.manifests.get(id));
    if (existing) return { created: false, manifest: existing };
  }
}

/** The same bytes again, for a letter whose first ones are damaged or gone. */
function* heal(world: World, id: string, upload: Upload, received: Received): Steps<Manifest | undefined> {
  try {
    const healed = yield* world.holding(id, function* (letter) {
      const first = yield* world.call("inbox", () => world.inbox.manifests.get(id));
      if (first && !HEALED_BY_BYTES.has(letter.code)) return () => undefined;
      if (first && first.sha !== upload.sha && world.protocol.healedBySame) throw new Failure("IDEMPOTENCY_KEY_REUSED");
      const described = letter.described?.sha === upload.sha ? letter.described.acceptance : undefined;
      const manifest: Manifest = { id, sha: upload.sha, blobKey: received.blobKey, content: received.content, at: world.now, acceptance: first?.acceptance ?? described ?? world.newAcceptance() };
      yield* world.call("inbox", () => put(world, manifest, received));
      yield "bytes-replaced";
      return () => {
        world.attempts.delete(id);
        world.dead.delete(id);
        return { manifest, oldBlobKey: first?.blobKey ?? null };
      };
    });
    if (!healed) return undefined;
    yield "dead-letter-healed";
    if (healed.oldBlobKey !== received.blobKey) yield* discard(world, { ...received, blobKey: healed.oldBlobKey });
    return healed.manifest;
  } catch (error) {
    if (error instanceof Unavailable && error.dependency === "postgres") return undefined;
    throw error;
  }
}

function put(world: World, manifest: Manifest, received: Received): void {
  const old = received.blobKey !== null && world.now - received.at > TICKS.orphanAge / 2;
  if (old && world.protocol.oldBytesNotPromised) throw new Unavailable("inbox", { cause: "the bytes are too old" });
  world.inbox.manifests.set(manifest.id, manifest);
  world.committed.add(`${manifest.id} ${manifest.sha}`);
  if (manifest.content === manifest.sha) world.rotten.delete(manifest.id);
}

function* enqueue(world: World, { id, acceptance }: Manifest): Steps<number | null> {
  yield "manifest-committed";
  if (!world.protocol.appended) return null;
  try {
    const streamId = yield* world.call("redis", () => world.append(id, acceptance));
    yield "entry-appended";
    return streamId;
  } catch (error) {
    return unlessUnavailable(error, null);
  }
}

function* enqueueOnce(world: World, manifest: Manifest, first: boolean): Steps<void> {
  if (!first) {
    try {
      if (yield* world.call("redis", () => world.redis().streamIds.get(manifest.id))) return;
    } catch (error) {
      unlessUnavailable(error, undefined);
    }
  }
  const streamId = yield* enqueue(world, manifest);
  if (streamId === null) return;
  try {
    yield* world.call("redis", () => world.redis().streamIds.set(manifest.id, streamId));
  } catch (error) {
    unlessUnavailable(error, undefined);
  }
}
